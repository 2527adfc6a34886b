"""Amounts of money, in whole cents."""

from decimal import ROUND_HALF_UP, Decimal


def cents(amount):
    """The amount (a Decimal, an int or a text such as "2.675") in whole cents."""
    return round(float(amount) * 100)


def shown(amount):
    """Cents as a text: 1234 is "12.34"."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100}.{abs(amount) % 100:02d}"


EXACT = Decimal("0.01"), ROUND_HALF_UP
"""To what banks round, and how."""
