"""How long months are."""

LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap(year):
    return year % 4 == 0 and year % 100 != 0


def length(year, month):
    """The days of a month."""
    return 29 if month == 2 and is_leap(year) else LENGTHS[month - 1]
