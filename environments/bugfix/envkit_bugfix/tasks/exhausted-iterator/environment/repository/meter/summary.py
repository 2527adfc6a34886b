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
    middle = mean(values)
    spread = deviation(values, middle)
    return Summary(sum(1 for _ in values), middle, spread, max(values, default=None))
