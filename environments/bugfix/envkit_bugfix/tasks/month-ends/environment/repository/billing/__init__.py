"""When subscriptions are due."""

from billing.plan import Plan
from billing.schedule import due_dates, next_due

__all__ = ["Plan", "due_dates", "next_due"]
