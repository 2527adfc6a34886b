"""The days on which a plan is due."""

from datetime import date, timedelta
from itertools import islice

from billing.calendar_rules import length


def later(day, months):
    """The same day of the month, so many months later."""
    years, month = divmod(day.month - 1 + months, 12)
    try:
        return date(day.year + years, month + 1, day.day)
    except ValueError:
        return date(day.year + years, month + 1, 28) + timedelta(days=length(day.year, month + 1) - 28)


def due(plan):
    """All days, for ever; the first is one period after the beginning."""
    day = plan.began
    while True:
        day = later(day, plan.months)
        yield day


def due_dates(plan, count):
    return list(islice(due(plan), count))


def next_due(plan, today):
    """The first day that is not before today."""
    return next(day for day in due(plan) if day >= today)
