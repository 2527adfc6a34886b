"""Quotes: a price times an amount, in a currency."""

from quotes.book import Book
from quotes.remember import remember


class Quotes:
    def __init__(self, rates, book=None):
        self.rates = rates
        self.book = book or Book()

    @remember
    def quote(self, item, amount=1, currency="EUR"):
        """The price of so many, rounded to two digits."""
        return round(self.book.price(item) * amount * self.rates[currency], 2)

    @remember
    def cheapest(self, *items, currency="EUR"):
        """The name of the cheapest of these."""
        return min(items, key=lambda item: self.quote(item, currency=currency))

    def forget(self):
        self.__dict__.pop("_known", None)
