"""The time, which tests can set."""

import time


class Clock:
    """Seconds that pass by themselves, or as told."""

    def __init__(self, now=None):
        self._now = now

    def now(self):
        return time.monotonic() if self._now is None else self._now

    def pass_(self, seconds):
        self._now += seconds
