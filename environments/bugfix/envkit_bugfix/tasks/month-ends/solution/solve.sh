#!/bin/sh
set -e
cat >/app/billing/calendar_rules.py <<'END'
"""How long months are."""

LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def length(year, month):
    """The days of a month."""
    return 29 if month == 2 and is_leap(year) else LENGTHS[month - 1]
END
cat >/app/billing/schedule.py <<'END'
"""The days on which a plan is due."""

from datetime import date
from itertools import count, islice

from billing.calendar_rules import length


def later(day, months):
    """The same day of the month, so many months later."""
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, length(year, month + 1)))


def due(plan):
    """All days, for ever; the first is one period after the beginning."""
    for period in count(1):
        yield later(plan.began, period * plan.months)


def due_dates(plan, many):
    return list(islice(due(plan), many))


def next_due(plan, today):
    """The first day that is not before today."""
    return next(day for day in due(plan) if day >= today)
END
