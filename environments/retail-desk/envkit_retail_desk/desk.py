"""The desk's tools: each is one transaction on a rollout's own database, and keeps its rows consistent.

The policy is not theirs to keep: whoever calls them answers for that. What they refuse is what no shop could do: an
order that does not exist, an item out of stock, a gift card without the money.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from envkit.tools import Tool

from .figures import dollars
from .world import Row, changes, world

MOST_TEXT = 100
"""Characters of one line of an address."""
MOST_LOOKUPS = 20
"""People that a record keeps of those who were looked up, the last ones: a caller gives two ways at most."""
MOST_CHANGES = 300
"""Changed rows that a record keeps: a hundred times what any task asks for."""

CancelReason = Literal["no_longer_needed", "ordered_by_mistake"]
DeclineReason = Literal[
    "identity_not_verified", "not_their_order", "order_status", "final_sale", "return_window", "cancel_reason",
    "different_product", "out_of_stock", "payment_method", "not_late",
]  # fmt: skip
TransferReason = Literal["faulty_item", "lost_parcel", "account_closure", "business_order", "legal_or_press"]


DECISIONS = ("decline_request", "transfer_to_human")
"""The tools by which nothing changes: whose request it is has to be known all the same."""


class DeskError(Exception):
    """What cannot be done, for the agent to read; nothing has changed."""


class Swap(BaseModel):
    """An item of an order and the item that takes its place."""

    model_config = ConfigDict(extra="forbid")

    item_id: str = Field(description="The item in the order.")
    new_item_id: str = Field(description="The item that takes its place.")


class Action(BaseModel):
    """A tool's name and its arguments, as a model would give them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: dict[str, Any]


class Desk:
    """The tools of one rollout over its own copy of the shop that has this seed."""

    def __init__(self, shop: str) -> None:
        self.db = world(shop).open()
        self.looked_up: list[str] = []
        """Whom it was asked for, before the first request was declined or handed over."""
        self._decided = False

    def tools(self) -> list[Callable[..., Any]]:
        """Everything an agent may call."""
        return [
            self.find_customer_by_email, self.find_customer_by_name_zip, self.get_customer, self.get_order,
            self.list_products, self.get_product, self.cancel_order, self.change_order_items,
            self.change_order_address, self.change_order_payment, self.change_customer_address, self.return_items,
            self.exchange_items, self.apply_late_credit, self.decline_request, self.transfer_to_human,
        ]  # fmt: skip

    def perform(self, action: Action) -> Any:
        """Do what a tool call with these arguments would."""
        tool = Tool.of(getattr(self, action.name))
        return tool.function(**tool.arguments(json.dumps(action.arguments)))

    def changes(self) -> list[str]:
        """What differs from the untouched shop, a row a line, sorted; it ends with a count where there are more than
        are kept."""
        found = sorted(changes(self.db).elements())
        return found[:MOST_CHANGES] + ([f"and {more} more"] if (more := len(found) - MOST_CHANGES) > 0 else [])

    def close(self) -> list[str]:
        """`changes`, and the database is gone."""
        found = self.changes()
        self.db.close()
        return found

    # --- looking things up ---------------------------------------------------------------------------------------

    def find_customer_by_email(self, email: str) -> str:
        """Find the id of the customer with this e-mail address.

        Args:
            email: The address on the account.
        """
        self._note(by_email(email))
        return str(self._one("SELECT id FROM customers WHERE email = lower(trim(?))", email, missing="customer")[0])

    def find_customer_by_name_zip(self, first_name: str, last_name: str, zip_code: str) -> str:
        """Find the id of the customer with this full name and zip code.

        Args:
            first_name: As on the account; case does not matter.
            last_name: As on the account; case does not matter.
            zip_code: Five digits, of the address on the account.
        """
        asked = "SELECT id FROM customers WHERE first_name = ? COLLATE NOCASE AND last_name = ? COLLATE NOCASE"
        names = first_name.strip(), last_name.strip(), zip_code.strip()
        self._note(by_name_zip(*names))
        return str(self._one(f"{asked} AND zip = ?", *names, missing="customer")[0])

    def get_customer(self, customer_id: str) -> dict[str, Any]:
        """Look up a customer: name, e-mail address, address, store credit, payment methods, and orders with their
        status.

        Args:
            customer_id: Such as C1001.
        """
        row = self._one("SELECT * FROM customers WHERE id = ?", customer_id, missing="customer")
        methods = self._all("SELECT id, label, balance FROM payment_methods WHERE customer_id = ?", customer_id)
        orders = self._all("SELECT id, placed, status FROM orders WHERE customer_id = ? ORDER BY id", customer_id)
        return {
            "customer_id": row[0], "first_name": row[1], "last_name": row[2], "email": row[3],
            "street": row[4], "city": row[5], "zip_code": row[6], "store_credit": dollars(row[7]),
            "payment_methods": [
                {"payment_id": method, "label": label} | ({} if balance is None else {"balance": dollars(balance)})
                for method, label, balance in methods
            ],
            "orders": [{"order_id": order, "placed": placed, "status": status} for order, placed, status in orders],
        }  # fmt: skip

    def get_order(self, order_id: str) -> dict[str, Any]:
        """Look up an order: customer, status, dates, address, payment, tracking number, items and prices paid.

        Args:
            order_id: Such as R100000.
        """
        row = self._order(order_id)
        items = self._all(
            "SELECT item_id, name, options, order_items.price, state, final_sale, product_id FROM order_items "
            "JOIN items ON items.id = item_id JOIN products ON products.id = product_id WHERE order_id = ?",
            order_id,
        )
        return {
            "order_id": row[0], "customer_id": row[1], "status": row[2], "placed": row[3], "promised": row[4],
            "delivered": row[5], "street": row[6], "city": row[7], "zip_code": row[8], "payment_id": row[9],
            "tracking": row[10],
            "items": [
                {
                    "item_id": item, "product": name, "product_id": of, "options": json.loads(options),
                    "paid": dollars(price), "state": state, "final_sale": bool(final),
                }
                for item, name, options, price, state, final, of in items
            ],
            "total": dollars(sum(item[3] for item in items)),
        }  # fmt: skip

    def list_products(self) -> dict[str, str]:
        """List all products the shop sells: the id of each, by its name."""
        return dict(self._all("SELECT name, id FROM products ORDER BY name"))

    def get_product(self, product_id: str) -> dict[str, Any]:
        """Look up a product and its items: the options, price and stock of each.

        Args:
            product_id: Such as P101.
        """
        name, final = self._one("SELECT name, final_sale FROM products WHERE id = ?", product_id, missing="product")
        items = self._all("SELECT id, options, price, stock FROM items WHERE product_id = ? ORDER BY id", product_id)
        return {
            "product_id": product_id,
            "product": name,
            "final_sale": bool(final),
            "items": [
                {"item_id": item, "options": json.loads(options), "price": dollars(price), "stock": stock}
                for item, options, price, stock in items
            ],
        }

    # --- changing things -----------------------------------------------------------------------------------------

    def cancel_order(self, order_id: str, reason: CancelReason) -> dict[str, Any]:
        """Cancel a whole order and refund what was paid to the method it was paid with.

        Args:
            order_id: The order.
            reason: Why the customer cancels.
        """
        order = self._open_order(order_id)
        with self.db:
            self._run("UPDATE orders SET status = 'cancelled', cancel_reason = ? WHERE id = ?", reason, order_id)
            paid = self._total(order_id)
            self._move(order_id, order[9], "refund", paid)
        return {"order_id": order_id, "status": "cancelled", "refund": dollars(paid), "payment_id": order[9]}

    def change_order_items(self, order_id: str, swaps: list[Swap], payment_id: str) -> dict[str, Any]:
        """Replace items of an order that has not left yet; the difference in price is charged or refunded.

        Args:
            order_id: The order.
            swaps: Every item to replace, with the item that takes its place.
            payment_id: The method that pays the difference, or gets it back.
        """
        order = self._open_order(order_id)
        with self.db:
            difference = 0
            for swap in _some(swaps):
                paid, price = self._line(order_id, swap.item_id), self._price(swap.new_item_id)
                if self._all(
                    "SELECT 1 FROM order_items WHERE order_id = ? AND item_id = ?", order_id, swap.new_item_id
                ):
                    raise DeskError(f"Item {swap.new_item_id} is in order {order_id} already.")
                self._take(swap.new_item_id)
                self._run("UPDATE items SET stock = stock + 1 WHERE id = ?", swap.item_id)
                self._run(
                    "UPDATE order_items SET item_id = ?, price = ? WHERE order_id = ? AND item_id = ?",
                    swap.new_item_id, price, order_id, swap.item_id,
                )  # fmt: skip
                difference += price - paid
            return self._settle(order_id, self._method(payment_id, order[1]), difference)

    def change_order_address(self, order_id: str, street: str, city: str, zip_code: str) -> dict[str, Any]:
        """Send an order to another address. The address on the customer's account stays.

        Args:
            order_id: The order.
            street: House number and street.
            city: City.
            zip_code: Five digits.
        """
        self._open_order(order_id)
        place = _address(street, city, zip_code)
        with self.db:
            self._run("UPDATE orders SET street = ?, city = ?, zip = ? WHERE id = ?", *place, order_id)
        return {"order_id": order_id, "street": place[0], "city": place[1], "zip_code": place[2]}

    def change_order_payment(self, order_id: str, payment_id: str) -> dict[str, Any]:
        """Charge the total of an order to another payment method and refund the one it was charged to.

        Args:
            order_id: The order.
            payment_id: The method that pays from now on.
        """
        order = self._open_order(order_id)
        new = self._method(payment_id, order[1])
        if new == order[9]:
            raise DeskError(f"Order {order_id} is paid with {payment_id} already.")
        with self.db:
            total = self._total(order_id)
            self._move(order_id, new, "charge", total)
            self._move(order_id, order[9], "refund", total)
            self._run("UPDATE orders SET payment_id = ? WHERE id = ?", new, order_id)
        return {"order_id": order_id, "payment_id": new, "charged": dollars(total)}

    def change_customer_address(self, customer_id: str, street: str, city: str, zip_code: str) -> dict[str, Any]:
        """Change the address on a customer's account. Orders keep the address that they have.

        Args:
            customer_id: The customer.
            street: House number and street.
            city: City.
            zip_code: Five digits.
        """
        self._one("SELECT id FROM customers WHERE id = ?", customer_id, missing="customer")
        place = _address(street, city, zip_code)
        with self.db:
            self._run("UPDATE customers SET street = ?, city = ?, zip = ? WHERE id = ?", *place, customer_id)
        return {"customer_id": customer_id, "street": place[0], "city": place[1], "zip_code": place[2]}

    def return_items(self, order_id: str, item_ids: list[str], payment_id: str) -> dict[str, Any]:
        """Take back items of a delivered order and refund what was paid for them.

        Args:
            order_id: The order.
            item_ids: All items that come back.
            payment_id: The method that gets the refund.
        """
        order = self._open_order(order_id)
        with self.db:
            refund = 0
            for item_id in _some(item_ids):
                refund += self._line(order_id, item_id)
                self._mark(order_id, item_id, "return requested", None)
            self._run("UPDATE orders SET status = 'return requested' WHERE id = ?", order_id)
            return self._settle(order_id, self._method(payment_id, order[1]), -refund)

    def exchange_items(self, order_id: str, swaps: list[Swap], payment_id: str) -> dict[str, Any]:
        """Exchange items of a delivered order for others; the difference in price is charged or refunded.

        Args:
            order_id: The order.
            swaps: Every item to exchange, with the item that takes its place.
            payment_id: The method that pays the difference, or gets it back.
        """
        order = self._open_order(order_id)
        with self.db:
            difference = 0
            for swap in _some(swaps):
                difference += self._price(swap.new_item_id) - self._line(order_id, swap.item_id)
                self._take(swap.new_item_id)
                self._mark(order_id, swap.item_id, "exchange requested", swap.new_item_id)
            self._run("UPDATE orders SET status = 'exchange requested' WHERE id = ?", order_id)
            return self._settle(order_id, self._method(payment_id, order[1]), difference)

    def apply_late_credit(self, order_id: str, amount: float) -> dict[str, Any]:
        """Give the customer of an order store credit because it came late.

        Args:
            order_id: The order that came late.
            amount: Dollars, such as 8.00.
        """
        order = self._order(order_id)
        if not (math.isfinite(amount) and 0 < amount <= 1000 and math.isclose(amount * 100, round(amount * 100))):
            raise DeskError("The amount must be dollars and whole cents, more than 0 and at most 1000.")
        cents = round(amount * 100)
        with self.db:
            self._run("UPDATE customers SET store_credit = store_credit + ? WHERE id = ?", cents, order[1])
            self._run("INSERT INTO ledger VALUES (?, NULL, 'credit', ?)", order_id, cents)
        return {"order_id": order_id, "customer_id": order[1], "store_credit_added": dollars(cents)}

    # --- deciding not to -----------------------------------------------------------------------------------------

    def decline_request(self, reason: DeclineReason) -> str:
        """Record that a request of the customer's is declined because the policy does not allow it.

        Args:
            reason: The first that applies of the policy's list.
        """
        with self.db:
            self._decide("decline", reason)
        return "Recorded. Tell the customer."

    def transfer_to_human(self, reason: TransferReason) -> str:
        """Hand a request that is not the desk's over to a colleague, who calls the customer back.

        Args:
            reason: What it is about.
        """
        with self.db:
            self._decide("transfer", reason)
        return "A colleague will call the customer back. Tell the customer."

    def _decide(self, kind: str, reason: str) -> None:
        self._decided = True
        self._run("INSERT INTO events VALUES (?, ?)", kind, reason)

    def _note(self, whom: str) -> None:
        if not self._decided and whom not in self.looked_up:
            self.looked_up = [*self.looked_up, whom[:MOST_TEXT]][-MOST_LOOKUPS:]

    # --- rows ----------------------------------------------------------------------------------------------------

    def _all(self, query: str, *values: Any) -> list[Row]:
        return self.db.execute(query, values).fetchall()

    def _run(self, query: str, *values: Any) -> None:
        self.db.execute(query, values)

    def _one(self, query: str, *values: Any, missing: str) -> Row:
        rows = self._all(query, *values)
        if not rows:
            raise DeskError(f"There is no such {missing}.")
        return rows[0]

    def _order(self, order_id: str) -> Row:
        return self._one("SELECT * FROM orders WHERE id = ?", order_id, missing="order")

    def _open_order(self, order_id: str) -> Row:
        """The order, which is not cancelled: nothing is left of one that is."""
        order = self._order(order_id)
        if order[2] == "cancelled":
            raise DeskError(f"Order {order_id} is cancelled.")
        return order

    def _line(self, order_id: str, item_id: str) -> int:
        """What was paid for an item of an order, which has not been taken back or exchanged."""
        query = "SELECT price, state FROM order_items WHERE order_id = ? AND item_id = ?"
        price, state = self._one(query, order_id, item_id, missing=f"item in order {order_id}")
        if state != "ordered":
            raise DeskError(f"Item {item_id} of order {order_id}: {state} already.")
        return int(price)

    def _mark(self, order_id: str, item_id: str, state: str, new_item_id: str | None) -> None:
        query = "UPDATE order_items SET state = ?, new_item_id = ? WHERE order_id = ? AND item_id = ?"
        self._run(query, state, new_item_id, order_id, item_id)

    def _price(self, item_id: str) -> int:
        return int(self._one("SELECT price FROM items WHERE id = ?", item_id, missing="item")[0])

    def _take(self, item_id: str) -> None:
        """One of an item out of the stock."""
        if not self._one("SELECT stock FROM items WHERE id = ?", item_id, missing="item")[0]:
            raise DeskError(f"Item {item_id} is out of stock.")
        self._run("UPDATE items SET stock = stock - 1 WHERE id = ?", item_id)

    def _total(self, order_id: str) -> int:
        return int(self._all("SELECT sum(price) FROM order_items WHERE order_id = ?", order_id)[0][0])

    def _method(self, payment_id: str, customer_id: str) -> str:
        query = "SELECT id FROM payment_methods WHERE id = ? AND customer_id = ?"
        return str(self._one(query, payment_id, customer_id, missing="payment method of this customer")[0])

    def _settle(self, order_id: str, payment_id: str, difference: int) -> dict[str, Any]:
        """Charge what is more, refund what is less."""
        if difference:
            self._move(order_id, payment_id, "charge" if difference > 0 else "refund", abs(difference))
        what = "charged" if difference > 0 else "refunded"
        return {"order_id": order_id, what: dollars(abs(difference)), "payment_id": payment_id}

    def _move(self, order_id: str, payment_id: str, kind: Literal["charge", "refund"], cents: int) -> None:
        """Money to or from a payment method; DeskError where a gift card has not so much."""
        change = -cents if kind == "charge" else cents
        [(balance,)] = self._all("SELECT balance FROM payment_methods WHERE id = ?", payment_id)
        if balance is not None and balance + change < 0:
            raise DeskError(f"The gift card {payment_id} has {dollars(balance)}; {dollars(cents)} are due.")
        self._run("UPDATE payment_methods SET balance = balance + ? WHERE id = ?", change, payment_id)
        self._run("INSERT INTO ledger VALUES (?, ?, ?, ?)", order_id, payment_id, kind, cents)


def by_email(email: str) -> str:
    """An e-mail address as the record has it that it was looked up."""
    return f"email {email.strip().lower()}"


def by_name_zip(first_name: str, last_name: str, zip_code: str) -> str:
    """As `by_email`, for a name with a zip code."""
    return f"name {' '.join((first_name, last_name)).lower()}, zip {zip_code}"


def _some(things: Sequence[Any]) -> Sequence[Any]:
    if not things:
        raise DeskError("Name at least one item.")
    return things


def _address(*lines: str) -> tuple[str, ...]:
    """The lines of an address with single spaces; DeskError where one is empty or too long."""
    tidy = tuple(" ".join(line.split()) for line in lines)
    if not all(0 < len(line) <= MOST_TEXT for line in tidy):
        raise DeskError(f"Each line of an address has 1 to {MOST_TEXT} characters.")
    return tidy
