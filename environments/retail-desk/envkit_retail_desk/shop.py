"""The shop as those see it who write its tasks: accounts with their orders, and what an item could be swapped for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from .figures import dollars
from .world import TODAY, world

RETURN_DAYS = 30


@dataclass(frozen=True)
class Item:
    id: str
    product: str
    product_id: str
    options: dict[str, str]
    price: int
    """In cents; of an item in an order, what was paid."""
    stock: int
    final_sale: bool

    @property
    def words(self) -> str:
        """The product and its options, as a customer would say them."""
        return f"{self.product} ({self.wish})"

    @property
    def wish(self) -> str:
        return ", ".join(f"{option} {value}" for option, value in self.options.items())


@dataclass(frozen=True)
class Order:
    id: str
    status: str
    promised: date
    delivered: date | None
    payment_id: str
    tracking: str | None
    items: tuple[Item, ...]

    @property
    def total(self) -> int:
        return sum(item.price for item in self.items)

    @property
    def days_late(self) -> int:
        return (self.delivered - self.promised).days if self.delivered else 0

    @property
    def returnable(self) -> tuple[Item, ...]:
        """What the policy lets come back."""
        if self.delivered is None or (TODAY - self.delivered).days > RETURN_DAYS:
            return ()
        return tuple(item for item in self.items if not item.final_sale)


@dataclass(frozen=True)
class Method:
    id: str
    label: str
    balance: int | None

    @property
    def words(self) -> str:
        return f"my {self.label}"


@dataclass(frozen=True)
class Account:
    id: str
    first_name: str
    last_name: str
    email: str
    zip_code: str
    methods: tuple[Method, ...]
    orders: tuple[Order, ...]
    shop: Shop = field(repr=False, compare=False)

    def paid_with(self, order: Order) -> Method:
        """What paid for the order, which is never a gift card."""
        return next(method for method in self.methods if method.id == order.payment_id)

    @property
    def gift_card(self) -> Method | None:
        return next((method for method in self.methods if method.balance is not None), None)

    def figures(self, *, without: Set[str | None]) -> tuple[str, ...]:
        """What could be told of its orders but these, and of its gift card: who asks for one figure needs no other."""
        found = {dollars(self.gift_card.balance or 0)} if self.gift_card else set[str]()
        for order in self.orders:
            if order.id not in without:
                found |= {dollars(order.total), str(order.delivered), str(order.tracking)} - {"None"}
        return tuple(sorted(found))

    @property
    def cards(self) -> tuple[Method, ...]:
        """Methods that never run out."""
        return tuple(method for method in self.methods if method.balance is None)


class Shop:
    """All of one world."""

    def __init__(self, seed: str) -> None:
        db = world(seed).db
        self.items = _items(db)
        """Every item the shop sells, by id."""
        self.accounts = tuple(_accounts(db, self))
        """Every customer's."""

    def others(self, item: Item) -> list[Item]:
        """The other items of this one's product."""
        return [other for other in self.items.values() if other.product_id == item.product_id and other.id != item.id]


@lru_cache(maxsize=8)
def shop(seed: str) -> Shop:
    """The one whose world has this seed."""
    return Shop(seed)


def _items(db: sqlite3.Connection) -> dict[str, Item]:
    query = (
        "SELECT items.id, name, product_id, options, price, stock, final_sale FROM items "
        "JOIN products ON products.id = product_id ORDER BY items.id"
    )
    return {
        row[0]: Item(row[0], row[1], row[2], json.loads(row[3]), row[4], row[5], bool(row[6]))
        for row in db.execute(query)
    }


def _accounts(db: sqlite3.Connection, shop: Shop) -> Iterator[Account]:
    of_orders: dict[str, list[Item]] = {}
    for order, item, price in db.execute("SELECT order_id, item_id, price FROM order_items ORDER BY order_id, item_id"):
        sold = shop.items[item]
        paid = Item(item, sold.product, sold.product_id, sold.options, price, sold.stock, sold.final_sale)
        of_orders.setdefault(order, []).append(paid)
    orders: dict[str, list[Order]] = {}
    query = "SELECT customer_id, id, status, promised, delivered, payment_id, tracking FROM orders ORDER BY id"
    for customer, order, status, promised, delivered, payment, tracking in db.execute(query):
        came = date.fromisoformat(delivered) if delivered else None
        made = Order(order, status, date.fromisoformat(promised), came, payment, tracking, tuple(of_orders[order]))
        orders.setdefault(customer, []).append(made)
    methods: dict[str, list[Method]] = {}
    for customer, *method in db.execute("SELECT customer_id, id, label, balance FROM payment_methods ORDER BY id"):
        methods.setdefault(customer, []).append(Method(*method))
    query = "SELECT id, first_name, last_name, email, zip FROM customers ORDER BY id"
    for row in db.execute(query):
        yield Account(*row, tuple(methods[row[0]]), tuple(orders[row[0]]), shop)
