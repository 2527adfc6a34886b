"""A value with the time until which it is good."""

from dataclasses import dataclass


@dataclass
class Entry:
    value: object
    until: float

    def good(self, now):
        return now < self.until
