#!/bin/sh
set -e
cat >/app/store/cache.py <<'END'
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
        self._entries.pop(key, None)
        if len(self._entries) >= self.size:
            now = self.clock.now()
            stale = [known for known, entry in self._entries.items() if not entry.good(now)]
            for known in stale or [next(iter(self._entries))]:
                del self._entries[known]
        self._entries[key] = Entry(value, self.clock.now() + self.ttl)

    def get(self, key, default=None):
        if key not in self:
            self._entries.pop(key, None)
            self.misses += 1
            return default
        self.hits += 1
        entry = self._entries[key] = self._entries.pop(key)
        return entry.value

    def __contains__(self, key):
        return key in self._entries and self._entries[key].good(self.clock.now())

    def __len__(self):
        now = self.clock.now()
        return sum(entry.good(now) for entry in self._entries.values())
END
