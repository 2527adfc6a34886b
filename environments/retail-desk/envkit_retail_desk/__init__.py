"""A shop's customer service: a policy, a database, tools and a customer; judged by what changed and what was said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from envkit import Environment, Limits, Message, Rollout
from envkit.errors import UsageError
from envkit.tools import Tool

from . import oracle, scoring
from .desk import Desk
from .figures import figures, unreadable
from .tasks import FAMILIES, Family, RetailTask, dataset, shop_of
from .user import DONE, GREETING, Customer, ModelCustomer, ScriptedCustomer, persona
from .world import world

TURNS = 60
"""Model calls an episode may take, for each request beyond two a dozen more: four times what a good agent needs."""


def environment(
    split: Literal["test", "train"] = "test",
    families: Family | tuple[Family, ...] | None = None,
    n: int = 130,
    user: Literal["script", "model"] = "script",
    requests: int = 2,
    seed: int = 0,
) -> Environment[RetailTask]:
    """The first n tasks of the families (all by default), which take turns. `requests` is what a caller of the family
    `several` wants, one thing after another; `user=model` asks the role `user` for the customer's part."""
    if n < 1 or requests < 1:
        raise UsageError("n and requests are at least 1.")
    chosen = (families,) if isinstance(families, str) else families or FAMILIES
    env = DeskEnv(
        dataset(split, chosen, n, requests, seed),
        rewards=[scoring.resolved],
        metrics=[scoring.database, scoring.communicated, scoring.tool_errors, scoring.turns],
        system_prompt=(Path(__file__).parent / "policy.md").read_text(encoding="utf-8"),
        limits=Limits(max_turns=TURNS + 12 * max(0, requests - 2)),
    )
    env.roles = ("user",) if user == "model" else ()
    env.shop = shop_of(split, seed)
    return env


class DeskEnv(Environment[RetailTask]):
    """A conversation with a customer, and the shop's tools beside it."""

    task_type = RetailTask
    shop = shop_of("test", 0)

    async def startup(self) -> None:
        world(self.shop)

    async def run(self, rollout: Rollout[RetailTask]) -> None:
        desk, customer = Desk(rollout.task.shop), self._customer(rollout)
        heard: set[str] = set()
        rollout.at_end(lambda: rollout.info.update(changes=desk.close(), looked_up=desk.looked_up, heard=sorted(heard)))
        tools = [Tool.of(tool) for tool in desk.tools()]
        says = await customer.reply(GREETING)
        while says is not None:
            rollout.chat.messages.append(Message.user(says))
            reply = await rollout.chat.run_tools(tools)
            if unreadable(reply.text) is None:
                heard |= figures(reply.text)
            says = await customer.reply(reply.text)

    def oracle(self, task: RetailTask, messages: Sequence[Message]) -> Message:
        return oracle.next_reply(task, messages)

    def stand_in(self, role: str, task: RetailTask, messages: Sequence[Message]) -> str:
        """The scripted customer in place of the model."""
        customer = ScriptedCustomer(task)
        says: str | None = None
        for message in messages:
            if message.role == "user":
                says = customer.say(message.text)
        return DONE if says is None else says

    def _customer(self, rollout: Rollout[Any]) -> Customer:
        if self.roles:
            return ModelCustomer(rollout.open("user", system=persona(rollout.task)))
        return ScriptedCustomer(rollout.task)
