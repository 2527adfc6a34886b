"""Errands that the policy allows."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .errand import Errand, Topic, about, act, listed, pick
from .figures import dollars
from .shop import Account, Item, Order, Shop
from .world import address

CREDIT_A_DAY = 500
"""Cents of store credit for each day that a delivery was late."""
_WHY = {
    "no_longer_needed": ("I do not need it any more.", "My plans have changed, so I no longer need it."),
    "ordered_by_mistake": ("I ordered it by mistake.", "That was a slip: I ordered it by mistake."),
}


def cancel(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "pending"])
    if order is None:
        return None
    reason = rng.choice(list(_WHY))
    goal = rng.choice(
        ("I would like to cancel an order.", "Please cancel an order of mine.", "I need an order stopped.")
    )
    return about(
        rng, order, goal,
        answers={"reason": rng.choice(_WHY[reason])},
        actions=(act("cancel_order", order_id=order.id, reason=reason),),
        said=(dollars(order.total),),
    )  # fmt: skip


def change_items(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    return _swap(account, [(o, o.items) for o in orders if o.status == "pending"], rng, "change_order_items")


def exchange_items(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    return _swap(account, [(o, o.returnable) for o in orders if o.status == "delivered"], rng, "exchange_items")


def change_address(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    """Of an order, of the account, or of both."""
    street, city, zip_code = address(rng)
    place = {"street": street, "city": city, "zip_code": zip_code}
    answers: dict[Topic, str] = {"address": f"The new address is {street}, {city}, zip code {zip_code}."}
    account_change = act("change_customer_address", customer_id=account.id, **place)
    what = rng.choice(("order", "order", "account", "both"))
    order = pick(rng, [order for order in orders if order.status == "pending"])
    if what == "account":
        goal = "I have moved. Please change the address on my account; my orders stay as they are."
        return Errand(goal=goal, answers=answers, actions=(account_change,))
    if order is None:
        return None
    order_change = act("change_order_address", order_id=order.id, **place)
    if what == "order":
        goal = rng.choice(
            ("Please send an order to another address.", "I need a different delivery address for an order.")
        )
        return about(rng, order, goal, answers=answers, actions=(order_change,))
    goal = "I have moved. Please send one of my orders to the new address, and put it on my account as well."
    agree = "Yes, please change both, the order and my account."
    return about(rng, order, goal, answers=answers, actions=(order_change, account_change), agree=agree)


def change_payment(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    choices = [
        (order, method)
        for order in orders
        if order.status == "pending"
        for method in account.methods
        if method.id != order.payment_id and (method.balance is None or method.balance >= order.total)
    ]
    if not choices:
        return None
    order, method = rng.choice(choices)
    return about(
        rng, order, "I would like to pay for an order with something else.",
        answers={"payment": f"I want to pay with {method.words}."},
        actions=(act("change_order_payment", order_id=order.id, payment_id=method.id),),
    )  # fmt: skip


def return_items(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "delivered" and order.returnable])
    if order is None:
        return None
    back = sorted(rng.sample(order.returnable, rng.randint(1, len(order.returnable))), key=lambda item: item.id)
    original, gift = account.paid_with(order), account.gift_card
    method = gift if gift is not None and rng.random() < 0.4 else original
    return about(
        rng, order, rng.choice(("I want to return something.", "I would like to send part of an order back.")),
        answers={
            "items": f"I want to return the {listed([item.product for item in back])}.",
            "payment": f"Please refund it to {method.words}.",
        },
        actions=(act("return_items", order_id=order.id, item_ids=[item.id for item in back], payment_id=method.id),),
        said=(dollars(sum(item.price for item in back)),),
    )  # fmt: skip


def claim_lateness(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    order = pick(rng, [order for order in orders if order.status == "delivered" and order.days_late > 0])
    if order is None:
        return None
    credit = order.days_late * CREDIT_A_DAY
    return about(
        rng, order, "An order came later than you promised, and I would like the credit for that.",
        actions=(act("apply_late_credit", order_id=order.id, amount=credit / 100),),
        said=(dollars(credit),),
    )  # fmt: skip


def ask(account: Account, orders: Sequence[Order], rng: Random) -> Errand | None:
    """A question with one figure for an answer; who tells all that there is has not understood it."""
    questions = [_catalogue(account.shop, rng), *(q for order in orders for q in _questions(order, rng))]
    if gift := account.gift_card:
        goal = "How much money is left on my gift card?"
        questions.append(Errand(goal=goal, said=(dollars(gift.balance or 0),)))
    question = rng.choice(questions)
    return question.model_copy(update={"unsaid": account.figures(without=set())})


def _swap(account: Account, choices: Sequence[tuple[Order, tuple[Item, ...]]], rng: Random, tool: str) -> Errand | None:
    """One or two items of an order for others of their products, so that there is a difference to pay."""
    possible = [(order, found) for order, of in choices if (found := [i for i in of if _in_stock(account.shop, i)])]
    if not possible:
        return None
    order, found = rng.choice(possible)
    old = sorted(rng.sample(found, rng.randint(1, min(2, len(found)))), key=lambda item: item.id)
    new = [rng.choice(_in_stock(account.shop, item)) for item in old]
    difference = sum(item.price for item in new) - sum(item.price for item in old)
    gift = account.gift_card
    payable = [*account.cards, *([gift] if gift and (gift.balance or 0) >= difference else [])]
    if difference == 0:
        return None
    method = rng.choice(payable)
    wishes = [f"the {a.product} with {b.wish} in place of {a.wish}" for a, b in zip(old, new, strict=True)]
    changing = tool == "change_order_items"
    goal = "I would like something in an order to be different." if changing else "I want to exchange something."
    return about(
        rng, order, goal,
        answers={
            "items": f"I would like {listed(wishes) if len(wishes) == 1 else ', and '.join(wishes)}.",
            "payment": f"Please use {method.words} for the difference.",
        },
        actions=(
            act(
                tool, order_id=order.id, payment_id=method.id,
                swaps=[{"item_id": a.id, "new_item_id": b.id} for a, b in zip(old, new, strict=True)],
            ),
        ),
        said=(dollars(abs(difference)),),
        lookups=tuple(act("get_product", product_id=item.product_id) for item in old),
    )  # fmt: skip


def _in_stock(shop: Shop, item: Item) -> list[Item]:
    return [other for other in shop.others(item) if other.stock and other.price != item.price]


def _catalogue(shop: Shop, rng: Random) -> Errand:
    item = rng.choice([item for item in shop.items.values() if item.stock])
    goal = f"What does the {item.words} cost today?"
    return Errand(goal=goal, said=(dollars(item.price),), lookups=(act("get_product", product_id=item.product_id),))


def _questions(order: Order, rng: Random) -> list[Errand]:
    found: list[Errand] = []
    if len(order.items) > 1 and order.status != "cancelled":
        goal = "How much did I pay for an order altogether?"
        found.append(about(rng, order, goal, said=(dollars(order.total),)))
    if order.status == "shipped":
        found.append(about(rng, order, "What is the tracking number of an order?", said=(str(order.tracking),)))
    if order.status == "delivered":
        goal = "On which day was an order of mine delivered?"
        found.append(about(rng, order, goal, said=(str(order.delivered),)))
    if order.status == "delivered" and len(order.returnable) > 1:
        back = rng.sample(order.returnable, 2)
        goal = "I do not want to return anything yet, only to know how much I would get back for two items together."
        answers: dict[Topic, str] = {"items": f"The {back[0].product} and the {back[1].product}."}
        found.append(about(rng, order, goal, answers=answers, said=(dollars(sum(item.price for item in back)),)))
    return found
