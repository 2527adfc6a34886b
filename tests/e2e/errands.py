"""Errands for the end-to-end tests: episodes of many turns, whose tools and users can be made to go wrong."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Literal

from envkit import Environment, Limits, Rollout, Task

MCP_SERVER = str(Path(__file__).parent / "errands_mcp.py")


class Errands(Environment[Task]):
    """The model carries as many parcels as the task says, one a call."""

    broken = ""

    async def run(self, rollout: Rollout[Task]) -> None:
        carried: list[int] = []
        rollout.at_end(lambda: rollout.info.update(carried=len(carried)))

        async def carry(parcel: int) -> str:
            """Carry one parcel."""
            if self.broken == "hangs":
                await asyncio.sleep(3600)
            if self.broken == "floods":
                return "parcel " * 1_000_000
            if self.broken == "dies":
                raise ConnectionResetError("the cart broke down")
            carried.append(parcel)
            return f"{len(carried)} carried"

        await rollout.chat.run_tools([carry])


class WithMCP(Errands):
    """The tool is an MCP server's, which ends in the middle of the second call."""

    async def run(self, rollout: Rollout[Task]) -> None:
        from envkit.mcp import mcp_tools

        rollout.at_end(lambda: rollout.info.setdefault("carried", 0))
        async with mcp_tools([sys.executable, MCP_SERVER]) as tools:
            await rollout.chat.run_tools(tools)


class WithUser(Errands):
    """A simulated user asks, and asks again, and never says that it is done."""

    roles = ("user",)

    async def run(self, rollout: Rollout[Task]) -> None:
        rollout.at_end(lambda: rollout.info.update(carried=sum(turn.agent == "policy" for turn in rollout.trace.turns)))
        user = rollout.open("user", system="You want your parcels carried. Say DONE when they are.")
        ask = await user.generate("How can I help?")
        while "DONE" not in ask.text:
            ask = await user.generate((await rollout.chat.generate(ask.text)).text)


def all_carried(rollout: Rollout[Task]) -> float:
    return float(rollout.info["carried"] == rollout.task.answer)


def environment(
    n: int = 4, broken: Literal["", "hangs", "floods", "dies", "mcp", "user"] = "", turns: int = 30
) -> Environment[Task]:
    kind = {"mcp": WithMCP, "user": WithUser}.get(broken, Errands)
    tasks = [
        Task(id=str(i), prompt=None if broken == "user" else f"Carry {i} parcels.", answer=i) for i in range(2, n + 2)
    ]
    env = kind(tasks, rewards=[all_carried], limits=Limits(max_turns=turns, tool=1.0))
    env.broken = broken
    return env
