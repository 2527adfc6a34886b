"""The cache."""

from store.clock import Clock
from store.entry import Entry


class Cache:
    """At most `size` entries, each for `ttl` seconds from when it was put."""

    def __init__(self, size, ttl=60.0, clock=None):
        self.size, self.ttl, self.clock = size, ttl, clock or Clock()
        self.hits = self.misses = 0
        self._entries = {}

    def put(self, key, value):
        if len(self._entries) >= self.size:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = Entry(value, self.clock.now() + self.ttl)

    def get(self, key, default=None):
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return default
        self.hits += 1
        return entry.value

    def __contains__(self, key):
        return key in self._entries

    def __len__(self):
        return len(self._entries)
