"""Mean and deviation."""

import math


def mean(values):
    total = count = 0
    for value in values:
        total += value
        count += 1
    return total / count


def deviation(values, middle):
    """The standard deviation of all values, about their mean."""
    squares = [(value - middle) ** 2 for value in values]
    return math.sqrt(sum(squares) / len(squares)) if squares else 0.0
