"""An invoice as text."""

from ledger.money import shown


def lines_of(invoice):
    yield f"Invoice for {invoice.customer}"
    for line in invoice.lines:
        yield f"{line.quantity:>4} x {line.name:<20} {shown(line.charged()):>10}"
    yield f"{'total':<27} {shown(invoice.total()):>10}"
