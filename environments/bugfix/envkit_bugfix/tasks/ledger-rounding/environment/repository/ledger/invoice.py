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
        return cents(sum((line.price * line.quantity for line in self.lines), Decimal(0)))
