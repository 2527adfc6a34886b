"""The shop: its customers, goods and orders, made once a process from a seed and copied for each rollout."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import lru_cache
from itertools import product
from random import Random
from typing import Any

TODAY = date(2025, 6, 16)
CUSTOMERS = 320
MOST_ORDERS = 4
MOST_PAGES = 1024
"""Pages of 4 KiB that a rollout's database may grow to: a dozen times what the shop takes."""

SCHEMA = """
CREATE TABLE customers (
    id TEXT PRIMARY KEY, first_name TEXT NOT NULL, last_name TEXT NOT NULL, email TEXT NOT NULL UNIQUE,
    street TEXT NOT NULL, city TEXT NOT NULL, zip TEXT NOT NULL, store_credit INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE payment_methods (
    id TEXT PRIMARY KEY, customer_id TEXT NOT NULL REFERENCES customers, kind TEXT NOT NULL, label TEXT NOT NULL,
    balance INTEGER CHECK (balance >= 0)
) WITHOUT ROWID;
CREATE INDEX methods_of ON payment_methods (customer_id);
CREATE TABLE products (id TEXT PRIMARY KEY, name TEXT NOT NULL, final_sale INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    id TEXT PRIMARY KEY, product_id TEXT NOT NULL REFERENCES products, options TEXT NOT NULL, price INTEGER NOT NULL,
    stock INTEGER NOT NULL CHECK (stock >= 0)
) WITHOUT ROWID;
CREATE INDEX items_of ON items (product_id);
CREATE TABLE orders (
    id TEXT PRIMARY KEY, customer_id TEXT NOT NULL REFERENCES customers, status TEXT NOT NULL, placed TEXT NOT NULL,
    promised TEXT NOT NULL, delivered TEXT, street TEXT NOT NULL, city TEXT NOT NULL, zip TEXT NOT NULL,
    payment_id TEXT NOT NULL REFERENCES payment_methods, tracking TEXT, cancel_reason TEXT
) WITHOUT ROWID;
CREATE INDEX orders_of ON orders (customer_id);
CREATE TABLE order_items (
    order_id TEXT NOT NULL REFERENCES orders, item_id TEXT NOT NULL REFERENCES items, price INTEGER NOT NULL,
    state TEXT NOT NULL, new_item_id TEXT REFERENCES items, PRIMARY KEY (order_id, item_id)
) WITHOUT ROWID;
CREATE TABLE ledger (
    order_id TEXT NOT NULL REFERENCES orders, payment_id TEXT REFERENCES payment_methods, kind TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0)
);
CREATE TABLE events (kind TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE log (step INTEGER NOT NULL, row TEXT NOT NULL);
"""
"""Amounts are in cents, dates as YYYY-MM-DD. `ledger` is the money that moved, `events` what an agent decided that
moves nothing; rows of these two may repeat, so a database's content is a multiset of rows. `log` is kept by triggers:
every row that goes (-1) or comes (1), in any of the others."""

TABLES = ("customers", "payment_methods", "products", "items", "orders", "order_items", "ledger", "events")
Row = tuple[Any, ...]

PRODUCTS: tuple[tuple[str, int, dict[str, tuple[str, ...]]], ...] = (
    ("Backpack", 64, {"color": ("black", "olive", "rust"), "volume": ("20 l", "30 l", "45 l")}),
    ("Bath Towel", 18, {"color": ("white", "teal", "sand"), "size": ("small", "large")}),
    ("Bedside Lamp", 42, {"color": ("brass", "white"), "height": ("30 cm", "40 cm")}),
    ("Bluetooth Speaker", 89, {"color": ("black", "red", "blue"), "power": ("10 W", "20 W")}),
    ("Camping Stove", 71, {"fuel": ("gas", "alcohol"), "burners": ("one", "two")}),
    ("Cast Iron Pan", 47, {"diameter": ("20 cm", "24 cm", "28 cm"), "handle": ("iron", "wood")}),
    ("Chef's Knife", 83, {"blade": ("16 cm", "20 cm"), "handle": ("walnut", "steel")}),
    ("Coffee Grinder", 96, {"color": ("black", "silver"), "drive": ("hand", "electric")}),
    ("Cutting Board", 33, {"wood": ("oak", "bamboo", "maple"), "size": ("small", "large")}),
    ("Desk Chair", 214, {"color": ("grey", "green", "black"), "armrests": ("fixed", "adjustable", "none")}),
    ("Desk Mat", 27, {"color": ("grey", "navy", "tan"), "length": ("60 cm", "90 cm")}),
    ("Duvet", 118, {"filling": ("down", "cotton", "wool"), "warmth": ("summer", "winter")}),
    ("Electric Kettle", 54, {"color": ("white", "black", "copper"), "capacity": ("1.0 l", "1.7 l")}),
    ("Espresso Cups", 29, {"color": ("white", "slate", "ochre"), "set": ("of two", "of four", "of six")}),
    ("Floor Rug", 162, {"color": ("indigo", "terracotta", "cream"), "size": ("small", "medium", "large")}),
    ("Garden Hose", 39, {"length": ("15 m", "25 m", "40 m"), "nozzle": ("brass", "plastic")}),
    ("Headphones", 143, {"color": ("black", "white", "sage"), "type": ("on-ear", "over-ear")}),
    ("Hiking Boots", 157, {"size": ("39", "41", "43", "45"), "color": ("brown", "grey")}),
    ("Humidifier", 68, {"color": ("white", "blush"), "capacity": ("2 l", "4 l")}),
    ("Jigsaw Puzzle", 24, {"motif": ("harbour", "forest", "market"), "pieces": ("500", "1000", "2000")}),
    ("Keyboard", 109, {"layout": ("US", "UK", "German"), "switches": ("quiet", "clicky")}),
    ("Mountain Tent", 289, {"sleeps": ("two", "three", "four"), "color": ("green", "orange")}),
    ("Notebook Set", 16, {"paper": ("ruled", "dotted", "plain"), "cover": ("soft", "hard")}),
    ("Picture Frame", 22, {"wood": ("oak", "black", "white"), "format": ("A4", "A3", "A2")}),
    ("Rain Jacket", 127, {"size": ("S", "M", "L", "XL"), "color": ("yellow", "navy", "moss")}),
    ("Running Shoes", 112, {"size": ("38", "40", "42", "44"), "color": ("white", "coral")}),
    ("Sleeping Bag", 134, {"season": ("summer", "three-season", "winter"), "zip side": ("left", "right")}),
    ("Table Fan", 49, {"color": ("white", "mint"), "diameter": ("25 cm", "35 cm")}),
    ("Tea Pot", 37, {"material": ("glass", "stoneware", "cast iron"), "capacity": ("0.6 l", "1.2 l")}),
    ("Travel Mug", 26, {"color": ("black", "rose", "pine"), "capacity": ("350 ml", "500 ml")}),
    ("Wall Clock", 45, {"color": ("walnut", "white", "red"), "diameter": ("25 cm", "35 cm")}),
    ("Water Bottle", 21, {"color": ("steel", "blue", "plum"), "capacity": ("0.5 l", "0.75 l", "1 l")}),
    ("Wool Blanket", 92, {"color": ("grey", "mustard", "forest"), "size": ("single", "double")}),
    ("Yoga Mat", 34, {"color": ("violet", "stone", "petrol"), "thickness": ("4 mm", "6 mm")}),
)
"""Name, about what it costs in dollars, and its options."""
FINAL_SALE = frozenset({"Espresso Cups", "Garden Hose", "Humidifier", "Jigsaw Puzzle", "Notebook Set", "Travel Mug"})

FIRST = (
    "Ada Amina Anders Beatriz Bruno Carmen Cedric Dalia Dmitri Edith Emeka Farah Felix Greta Hana Hugo Ines Ivan Jonas "
    "Jun Kamala Kofi Laila Leif Lucia Malik Marta Mei Nadia Nils Odette Omar Petra Pavel Quinn Rosa Ravi Selma Stefan "
    "Tamar Theo Uma Viktor Wanda Xavier Yara Yusuf Zoe"
).split()
LAST = (
    "Abara Baker Castillo Dubois Eriksen Fontaine Grimaldi Haddad Ibarra Jansen Kowalski Lindqvist Moreau Nakamura "
    "Okafor Petrov Quigley Rahman Sorensen Takahashi Ueda Vasquez Whitfield Xu Yilmaz Zimmer"
).split()
STREETS = "Alder Birch Cedar Dogwood Elm Foxglove Gorse Hazel Juniper Larch Maple Poplar Rowan Sorrel Willow".split()
KINDS = "Street Lane Road Avenue Court".split()
CITIES = (
    ("Brookhaven", "104"), ("Clearwater Falls", "217"), ("Easton Mills", "339"), ("Greyport", "452"),
    ("Highfield", "518"), ("Lakemont", "606"), ("Northbridge", "731"), ("Stonegate", "845"), ("Westerly", "963"),
)  # fmt: skip


def address(rng: Random) -> tuple[str, str, str]:
    """(street, city, zip) of somewhere."""
    city, region = rng.choice(CITIES)
    street = f"{rng.randint(1, 240)} {rng.choice(STREETS)} {rng.choice(KINDS)}"
    return street, city, f"{region}{rng.randint(0, 99):02d}"


class World:
    """A shop before anybody called: a database that is only read, and copied by `open`."""

    def __init__(self, seed: str) -> None:
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        self.db.executescript(SCHEMA)
        _stock_shelves(self.db, Random(f"{seed}:goods"))
        names = Random(f"{seed}:names").sample([(first, last) for first in FIRST for last in LAST], CUSTOMERS)
        for number, name in enumerate(names):
            _register(self.db, number, name, Random(f"{seed}:customer:{number}"))
        self.db.commit()
        for table in TABLES:
            _watch(self.db, table)

    def open(self) -> sqlite3.Connection:
        """A copy in memory, of one's own; it refuses rows that refer to nothing, and to grow without bound."""
        copy = sqlite3.connect(":memory:", cached_statements=32)
        self.db.backup(copy)
        copy.execute("PRAGMA foreign_keys = ON")
        copy.execute(f"PRAGMA max_page_count = {MOST_PAGES}")
        return copy


@lru_cache(maxsize=8)  # a run has one, and each is a megabyte
def world(seed: str) -> World:
    """The one of this seed, made when it is first asked for."""
    return World(seed)


def changes(db: sqlite3.Connection) -> Counter[str]:
    """What differs from the untouched shop: every row that is gone ("- ...") or new ("+ ..."), and how often.

    A row that has changed is both; one that was changed back is neither.
    """
    net = db.execute("SELECT row, sum(step) FROM log GROUP BY row HAVING sum(step) <> 0")
    return Counter({f"{'+' if step > 0 else '-'} {row}": abs(step) for row, step in net})


def _watch(db: sqlite3.Connection, table: str) -> None:
    """Log the rows that go from and come to this table."""
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]

    def logged(step: int, which: str) -> str:
        return f"INSERT INTO log VALUES ({step}, '{table} ' || json_array({', '.join(f'{which}.{n}' for n in names)}));"

    gone, new = logged(-1, "old"), logged(1, "new")
    for event, steps in (("INSERT", new), ("UPDATE", gone + new), ("DELETE", gone)):
        db.execute(f"CREATE TRIGGER {event.lower()}_{table} AFTER {event} ON {table} BEGIN {steps} END")


def _stock_shelves(db: sqlite3.Connection, rng: Random) -> None:
    number = 20_000
    for index, (name, about, options) in enumerate(PRODUCTS):
        product_id = f"P{index + 101}"
        db.execute("INSERT INTO products VALUES (?, ?, ?)", (product_id, name, name in FINAL_SALE))
        for values in product(*options.values()):
            number += rng.randint(3, 40)
            price = round(about * 100 * rng.uniform(0.8, 1.3))
            stock = 0 if rng.random() < 0.12 else rng.randint(4, 60)
            chosen = json.dumps(dict(zip(options, values, strict=True)))
            db.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", (f"I{number}", product_id, chosen, price, stock))


def _register(db: sqlite3.Connection, number: int, name: tuple[str, str], rng: Random) -> None:
    """One customer with an account, payment methods and orders; nobody else has the same first and last name."""
    first, last = name
    customer, home = f"C{number + 1001}", address(rng)
    email = f"{first}.{last}{rng.randint(10, 99)}@{rng.choice(('mail', 'post', 'inbox'))}.example".lower()
    db.execute("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?, ?, 0)", (customer, first, last, email, *home))
    methods = list(_methods(customer, number, rng))
    db.executemany("INSERT INTO payment_methods VALUES (?, ?, ?, ?, ?)", methods)
    payable = [method[0] for method in methods if method[2] != "gift card"]
    names = rng.sample(range(len(PRODUCTS)), 12)
    for index in range(rng.randint(2, MOST_ORDERS)):
        of_order = [f"P{names.pop() + 101}" for _ in range(rng.randint(1, 3))]
        _order(db, f"R{100_000 + number * 10 + index}", customer, home, rng.choice(payable), of_order, rng)


def _methods(customer: str, number: int, rng: Random) -> Iterator[Row]:
    """A card, and for most a second one or a wallet, and a gift card."""
    brand = rng.choice(("Visa", "Mastercard"))
    yield f"M{number * 10 + 30_001}", customer, "card", f"{brand} ending in {rng.randint(1000, 9999)}", None
    if rng.random() < 0.7:
        label = rng.choice(("PayLink wallet", f"Amex ending in {rng.randint(1000, 9999)}"))
        yield f"M{number * 10 + 30_002}", customer, "wallet" if "wallet" in label else "card", label, None
    if rng.random() < 0.75:
        yield f"M{number * 10 + 30_003}", customer, "gift card", "gift card", rng.randint(1_500, 60_000)


def _order(
    db: sqlite3.Connection, order: str, customer: str, home: tuple[str, str, str], method: str,
    products: Iterable[str], rng: Random,
) -> None:  # fmt: skip
    """One order of one item of each of these products, paid for."""
    status = rng.choices(("pending", "shipped", "delivered", "cancelled"), (40, 12, 44, 4))[0]
    tracking = f"TRK{rng.randint(10**9, 10**10 - 1)}" if status in ("shipped", "delivered") else None
    delivered: date | None = None
    if status == "delivered":
        delivered = TODAY - timedelta(days=rng.choice((rng.randint(1, 24), rng.randint(38, 90))))
        promised = delivered - timedelta(days=rng.choice((-2, -1, 0, 0, 1, 2, 3, 4)))
        placed = min(promised, delivered) - timedelta(days=rng.randint(3, 7))
    else:
        placed = TODAY - timedelta(days=rng.randint(1, 4))
        promised = placed + timedelta(days=rng.randint(5, 9))
    reason = "no_longer_needed" if status == "cancelled" else None
    dates = (placed.isoformat(), promised.isoformat(), delivered and delivered.isoformat())
    db.execute(
        "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (order, customer, status, *dates, *home, method, tracking, reason),
    )
    total = 0
    for of_product in products:
        items = db.execute("SELECT id, price FROM items WHERE product_id = ? ORDER BY id", (of_product,)).fetchall()
        item, price = rng.choice(items)
        db.execute("INSERT INTO order_items VALUES (?, ?, ?, 'ordered', NULL)", (order, item, price))
        total += price
    db.execute("INSERT INTO ledger VALUES (?, ?, 'charge', ?)", (order, method, total))
    if status == "cancelled":
        db.execute("INSERT INTO ledger VALUES (?, ?, 'refund', ?)", (order, method, total))
