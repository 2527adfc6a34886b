"""`Errand`: one thing that a customer wants, in their words, and the actions that are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .desk import Action
from .shop import Account, Order

Topic = Literal["reason", "items", "payment", "address"]


class Errand(BaseModel):
    """One request: what the customer says, and what is right.

    `said` are the figures that the customer must hear, `unsaid` those that must not be told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    goal: str
    """How the customer asks for it."""
    order_id: str | None = None
    order: str = ""
    """What they say when asked which order it is."""
    answers: dict[Topic, str] = {}
    """What they say when asked about these."""
    agree: str = "Yes, please go ahead."
    """What they say when asked whether it should be done."""
    actions: tuple[Action, ...] = ()
    said: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    lookups: tuple[Action, ...] = ()
    """What has to be looked up on the way."""
    instead: Errand | None = None
    """What they want in place of this once they are asked whether it should be done."""

    @property
    def final(self) -> Errand:
        """What they want in the end."""
        return self if self.instead is None else self.instead.final


Maker = Callable[[Account, Sequence[Order], Random], Errand | None]
"""Makes an errand from an account, the orders of it that may be used, and a generator; None where they give it no
occasion."""


def act(name: str, **arguments: Any) -> Action:
    return Action(name=name, arguments=arguments)


def pick(rng: Random, orders: Sequence[Order]) -> Order | None:
    return rng.choice(orders) if orders else None


def about(rng: Random, order: Order, goal: str, **more: Any) -> Errand:
    """An errand about this order, which the customer knows by its number or by what was in it."""
    named = f"The order number is {order.id}."
    described = f"I do not have the number at hand. It is the order with the {rng.choice(order.items).product}."
    said = named if rng.random() < 0.6 else described
    lookups = (act("get_order", order_id=order.id), *more.pop("lookups", ()))
    return Errand(goal=goal, order_id=order.id, order=said, lookups=lookups, **more)


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and the {names[-1]}"
