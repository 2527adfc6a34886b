#!/bin/sh
set -e
cat >/app/ledger/money.py <<'END'
"""Amounts of money, in whole cents."""

from decimal import ROUND_HALF_UP, Decimal


def cents(amount):
    """The amount (a Decimal, an int or a text such as "2.675") in whole cents."""
    return int(Decimal(amount).quantize(*EXACT) * 100)


def shown(amount):
    """Cents as a text: 1234 is "12.34"."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100}.{abs(amount) % 100:02d}"


EXACT = Decimal("0.01"), ROUND_HALF_UP
"""To what banks round, and how."""
END
cat >/app/ledger/invoice.py <<'END'
"""An invoice: lines with a price and a quantity."""

from dataclasses import dataclass, field
from decimal import Decimal

from ledger.money import cents


@dataclass(frozen=True)
class Line:
    name: str
    price: Decimal
    quantity: int = 1

    def charged(self):
        """What this line is charged, in cents."""
        return cents(self.price * self.quantity)


@dataclass
class Invoice:
    customer: str
    lines: list = field(default_factory=list)

    def add(self, name, price, quantity=1):
        self.lines.append(Line(name, Decimal(price), quantity))
        return self

    def total(self):
        """The sum of what the lines are charged, in cents."""
        return sum(line.charged() for line in self.lines)
END
