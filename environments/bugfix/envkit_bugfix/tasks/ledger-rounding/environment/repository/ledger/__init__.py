"""Invoices and what they come to."""

from ledger.invoice import Invoice, Line
from ledger.money import cents, shown

__all__ = ["Invoice", "Line", "cents", "shown"]
