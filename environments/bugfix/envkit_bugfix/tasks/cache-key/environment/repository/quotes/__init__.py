"""Quotes of prices in several currencies."""

from quotes.book import Book
from quotes.service import Quotes

__all__ = ["Book", "Quotes"]
