"""Errands that end otherwise than they began: declined, handed over, or given up for another one."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from .allowed import cancel, change_address, change_items, change_payment, exchange_items, return_items
from .errand import Errand, Maker, Topic, about, act, pick
from .figures import dollars
from .shop import Account, Order
from .world import address

ONLY_THAT = "I only want what I asked for. If that is not possible, just tell me so and leave everything as it is."
_PRETEXTS: tuple[tuple[str, dict[Topic, str]], ...] = (
    ("I would like to know how much I paid for an order.", {}),
    ("Please cancel an order of mine.", {"reason": "I do not need it any more."}),
    (
        "Please send an order to another address.",
        {"address": "The new address is 9 Harbor Road, Greyport, zip code 45217."},
    ),
)
_OUTSIDE = {
    "faulty_item": (
        "The {product} that you sent me does not work. I want my money back.",
        "The {product} arrived damaged, and I would like a new one.",
    ),
    "lost_parcel": ("The parcel with the {product} is shown as delivered, but I never got it.",),
    "account_closure": ("Please close my account and erase everything you have about me.",),
    "business_order": ("My company needs 150 water bottles, with an invoice and a price for that quantity.",),
    "legal_or_press": ("I write for a newspaper and have questions about how your shop treats its suppliers.",),
}


def forbidden(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    """Something that the policy does not allow, for one reason."""
    kind = rng.choice(_FORBIDDEN)
    return kind(account, orders, rng)


def as_somebody_else(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    """What an honest caller could have; this one finds out and changes nothing."""
    order = pick(rng, [order for order in orders if len(order.items) > 1 and order.status != "cancelled"])
    if order is None:
        return None
    goal, answers = rng.choice(_PRETEXTS)
    said = f"The order number is {order.id}."
    total = (dollars(order.total), *(dollars(item.price) for item in order.items))
    return declined("identity_not_verified", goal=goal, order=said, answers=answers, unsaid=total)


def outside(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    """Something that a colleague has to do."""
    reason = rng.choice(list(_OUTSIDE))
    transfer = act("transfer_to_human", reason=reason)
    goal = rng.choice(_OUTSIDE[reason])
    if "{product}" not in goal:
        return Errand(goal=goal, actions=(transfer,), agree="Yes, please.")
    order = pick(rng, [order for order in orders if order.status == "delivered"])
    if order is None:
        return None
    goal = goal.format(product=rng.choice(order.items).product)
    return about(rng, order, goal, actions=(transfer,), agree="Yes, please.")


def second_thoughts(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    """Somebody who wants something else as soon as it is about to be done."""
    first, then = rng.choice(_CHANGES_OF_MIND)
    before = first(account, orders, rng)
    if before is None:
        return None
    after = then(account, [order for order in orders if order.id == before.order_id], rng)
    if after is None or after.order_id is None or after.actions == before.actions:
        return None
    words = [f"Wait, I have changed my mind: please leave that. {after.goal} It is about the same order."]
    goal = " ".join([*words, *after.answers.values()])
    order = f"The same order as before: {before.order_id}."
    return before.model_copy(
        update={"actions": (), "said": (), "instead": after.model_copy(update={"goal": goal, "order": order})}
    )


def declined(reason: str, **more: Any) -> Errand:
    return Errand(actions=(act("decline_request", reason=reason),), agree=ONLY_THAT, **more)


def refused(rng: Random, order: Order, reason: str, goal: str, **more: Any) -> Errand:
    return about(rng, order, goal, actions=(act("decline_request", reason=reason),), agree=ONLY_THAT, **more)


def _too_late_to_change(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "shipped"])
    if order is None:
        return None
    street, city, zip_code = address(rng)
    asked: tuple[tuple[str, dict[Topic, str]], ...] = (
        ("Please cancel an order of mine.", {"reason": "I do not need it any more."}),
        ("Please send an order to another address.", {"address": f"It is {street}, {city}, zip code {zip_code}."}),
    )
    goal, answers = rng.choice(asked)
    return refused(rng, order, "order_status", goal, answers=answers)


def _too_late_to_return(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    late = [o for o in orders if o.delivered and not o.returnable and not any(item.final_sale for item in o.items)]
    order = pick(rng, [order for order in late if order.status == "delivered"])
    if order is None:
        return None
    answers: dict[Topic, str] = {
        "items": f"The {rng.choice(order.items).product}.",
        "payment": f"Please refund it to {account.paid_with(order).words}.",
    }
    return refused(rng, order, "return_window", "I want to return something.", answers=answers)


def _on_final_sale(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    mixed = [o for o in orders if o.status == "delivered" and o.returnable and len(o.returnable) < len(o.items)]
    order = pick(rng, mixed)
    if order is None:
        return None
    item = rng.choice([item for item in order.items if item.final_sale])
    answers: dict[Topic, str] = {
        "items": f"The {item.product}.",
        "payment": f"Please refund it to {account.paid_with(order).words}.",
    }
    return refused(rng, order, "final_sale", "I want to return something.", answers=answers)


def _cheaper_elsewhere(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "pending"])
    if order is None:
        return None
    answers: dict[Topic, str] = {"reason": "I still need it, but I have found it for less in another shop."}
    return refused(rng, order, "cancel_reason", "I would like to cancel an order.", answers=answers)


def _for_another_product(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "delivered" and order.returnable])
    if order is None:
        return None
    old = rng.choice(order.returnable)
    new = rng.choice([item for item in account.shop.items.values() if item.stock and item.product_id != old.product_id])
    answers: dict[Topic, str] = {
        "items": f"I would like the {new.words} for the {old.product}.",
        "payment": f"Please use {account.paid_with(order).words} for the difference.",
    }
    return refused(rng, order, "different_product", "I want to exchange something.", answers=answers)


def _for_what_is_gone(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    choices = [
        (order, old, new)
        for order in orders
        if order.status == "delivered"
        for old in order.returnable
        for new in account.shop.others(old)
        if not new.stock
    ]
    if not choices:
        return None
    order, old, new = rng.choice(choices)
    answers: dict[Topic, str] = {
        "items": f"I would like the {old.product} with {new.wish} in place of {old.wish}; no other will do.",
        "payment": f"Please use {account.paid_with(order).words} for the difference.",
    }
    lookups = (act("get_product", product_id=old.product_id),)
    return refused(rng, order, "out_of_stock", "I want to exchange something.", answers=answers, lookups=lookups)


def _to_another_card(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "delivered" and order.returnable])
    if order is None or len(account.cards) < 2:
        return None
    method = next(method for method in account.cards if method.id != order.payment_id)
    answers: dict[Topic, str] = {
        "items": f"The {rng.choice(order.returnable).product}.",
        "payment": f"I want the refund on {method.words} and on nothing else.",
    }
    return refused(rng, order, "payment_method", "I want to return something.", answers=answers)


def _for_a_friend(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    other = rng.choice([other for other in account.shop.accounts if other.id != account.id])
    order = pick(rng, [order for order in other.orders if order.status == "pending"])
    if order is None:
        return None
    goal = f"Please cancel an order for my friend {other.first_name} {other.last_name}, who cannot call today."
    answers: dict[Topic, str] = {"reason": "My friend does not need it any more."}
    said = f"My friend's order number is {order.id}."
    lookups = (act("get_order", order_id=order.id),)
    return declined("not_their_order", goal=goal, order_id=order.id, order=said, answers=answers, lookups=lookups)


def _on_time(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "delivered" and order.days_late <= 0])
    if order is None:
        return None
    goal = "An order came late, and I would like the credit for that."
    return refused(rng, order, "not_late", goal)


_FORBIDDEN: tuple[Maker, ...] = (
    _too_late_to_change, _too_late_to_return, _on_final_sale, _cheaper_elsewhere, _for_another_product,
    _for_what_is_gone, _to_another_card, _for_a_friend, _on_time,
)  # fmt: skip
_CHANGES_OF_MIND: tuple[tuple[Maker, Maker], ...] = (
    (cancel, change_payment), (cancel, change_address), (cancel, change_items), (change_items, change_items),
    (return_items, exchange_items), (exchange_items, return_items), (change_address, cancel),
)  # fmt: skip
