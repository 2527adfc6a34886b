"""Rows of fields with commas between them."""

from rows.reader import read
from rows.writer import written

__all__ = ["read", "written"]
