#!/bin/sh
set -e
cat >/app/meter/summary.py <<'END'
"""The summary of readings."""

from dataclasses import dataclass

from meter.moments import deviation, mean


@dataclass(frozen=True)
class Summary:
    count: int
    mean: float
    deviation: float
    largest: float


def summary(values):
    """The summary of any iterable of numbers."""
    values = list(values)
    if not values:
        return None
    middle = mean(values)
    return Summary(len(values), middle, deviation(values, middle), max(values))
END
cat >/app/meter/readings.py <<'END'
"""Readings, one a line: `time value`."""


def readings(lines):
    """The values, one after the other; what begins with # is a comment."""
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        yield float(line.split()[1])
END
