"""Tasks: a caller and what they want, made by family and number, with the actions that are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from envkit import Task
from envkit.dataset import Dataset

from . import allowed, refused
from .errand import Errand, Maker
from .shop import Account, shop
from .world import MOST_ORDERS

Family = Literal[
    "cancel", "items", "address", "payment", "return", "exchange", "late", "information", "forbidden", "impostor",
    "outside", "second_thoughts", "several",
]  # fmt: skip
FAMILIES: tuple[Family, ...] = get_args(Family)
MAKERS: dict[Family, Maker] = {
    "cancel": allowed.cancel,
    "items": allowed.change_items,
    "address": allowed.change_address,
    "payment": allowed.change_payment,
    "return": allowed.return_items,
    "exchange": allowed.exchange_items,
    "late": allowed.claim_lateness,
    "information": allowed.ask,
    "forbidden": refused.forbidden,
    "impostor": refused.as_somebody_else,
    "outside": refused.outside,
    "second_thoughts": refused.second_thoughts,
}
"""What makes the one errand of a family; `several` takes any of theirs that a caller may have beside others."""
BESIDE_OTHERS: tuple[Family, ...] = (
    "cancel", "items", "address", "payment", "return", "exchange", "late", "information", "forbidden",
)  # fmt: skip


class Caller(BaseModel):
    """Who calls, as they say it themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_name: str
    last_name: str
    zip_code: str
    email: str | None
    """None where they do not remember which they used."""
    customer_id: str | None
    """None where they are not who they say."""


class RetailTask(Task):
    """A caller with errands, one after another, in the shop of a seed."""

    shop: str
    family: Family
    caller: Caller
    errands: tuple[Errand, ...]


def dataset(split: str, families: Sequence[Family], n: int, requests: int, seed: int) -> Dataset[RetailTask]:
    """The first n tasks, the families taking turns. A task depends on split, seed, family and its number alone, and
    those of `several` on `requests`; all of a split and seed play in one shop."""

    def tasks() -> Iterator[RetailTask]:
        for i in range(n):
            family = families[i % len(families)]
            yield make(split, seed, family, i // len(families), requests)

    about = {"generator": "retail-desk", "split": split, "seed": seed}
    return Dataset(tasks, about=about)


def make(split: str, seed: int, family: Family, number: int, requests: int = 2) -> RetailTask:
    """The task of this family and number."""
    rng, place = Random(f"{split}:{seed}:{family}:{number}"), shop_of(split, seed)
    while True:
        account = rng.choice(shop(place).accounts)
        wanted = _several(account, requests, rng) if family == "several" else _one(account, family, rng)
        if wanted is not None:
            caller = _impostor(account, rng) if family == "impostor" else _caller(account, rng)
            name = f"{split}-{seed}-" if seed else f"{split}-"
            name += f"{family}-{requests}" if family == "several" and requests != 2 else family
            return RetailTask(id=f"{name}-{number}", shop=place, family=family, caller=caller, errands=wanted)


def shop_of(split: str, seed: int) -> str:
    """The seed of the shop that a split's tasks play in: those of no other split, or seed, do."""
    return f"retail-desk 2:{split}:{seed}"


def _one(account: Account, family: Family, rng: Random) -> tuple[Errand, ...] | None:
    errand = MAKERS[family](account, list(account.orders), rng)
    return None if errand is None else (errand,)


def _several(account: Account, requests: int, rng: Random) -> tuple[Errand, ...] | None:
    """So many errands that do not touch each other: each that is about an order has it for itself, and the money that
    moves is on cards, so that the balance of a gift card is what it was."""
    if len(account.orders) < min(requests, MOST_ORDERS):
        return None
    account = replace(account, methods=account.cards)
    free, wanted = list(account.orders), list[Errand]()
    for _ in range(40 * requests):
        if len(wanted) == requests:
            return _beside_each_other(account, wanted)
        family = rng.choice(BESIDE_OTHERS if free else ("information",))
        errand = MAKERS[family](account, free, rng)
        if errand is not None and errand.goal not in {other.goal for other in wanted}:
            wanted.append(errand)
            free = [order for order in free if order.id != errand.order_id]
    return None


def _beside_each_other(account: Account, wanted: Sequence[Errand]) -> tuple[Errand, ...]:
    """The errands, of which a question does not keep anybody from telling figures of what the others are about."""
    alone: list[Errand] = []
    for errand in wanted:
        others = {other.order_id for other in wanted if other is not errand}
        alone.append(errand.model_copy(update={"unsaid": account.figures(without=others)}) if errand.unsaid else errand)
    return tuple(alone)


def _caller(account: Account, rng: Random) -> Caller:
    return Caller(
        first_name=account.first_name,
        last_name=account.last_name,
        zip_code=account.zip_code,
        email=account.email if rng.random() < 0.6 else None,
        customer_id=account.id,
    )


def _impostor(account: Account, rng: Random) -> Caller:
    """Somebody who knows a customer's name, and neither e-mail address nor zip code."""
    first, last = account.first_name, account.last_name
    wrong = f"{int(account.zip_code) + rng.randint(1, 9) * 101:05d}"
    email = f"{last}.{first}{rng.randint(10, 99)}@webmail.example".lower()
    return Caller(first_name=first, last_name=last, zip_code=wrong, email=email, customer_id=None)
