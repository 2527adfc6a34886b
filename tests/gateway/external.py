"""Programs that bring their own loop, as functions of the gateway: what the tests of all dialects share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anthropic
import openai
import pytest

from envkit import Environment, Message, Rollout, Services, Task, Trace, run_rollout
from envkit.clients.base import Client, Completion, Request
from envkit.gateway.gateway import Gateway
from envkit.types import ToolCall

TASK = Task(id="t", prompt="What is 6 * 7?")
Program = Callable[[Gateway], Awaitable[object]]


class Serves(Environment[Task]):
    """An environment that leaves its episode to a program."""

    def __init__(self, program: Program, **more: Any) -> None:
        super().__init__([TASK], **more)
        self.program = program

    async def run(self, rollout: Rollout[Task]) -> None:
        rollout.at_end(lambda: rollout.info.update(turns=len(rollout.trace.turns)))
        async with rollout.serve() as gateway:
            await self.program(gateway)


class Model(Client):
    """Answers from a list, or by a function of the request, and keeps the requests."""

    name = "served-model"

    def __init__(self, *replies: Completion | Message | Exception | str) -> None:
        self.replies, self.requests = list(replies), list[Request]()

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Completion):
            return reply
        return Completion(Message.assistant(reply) if isinstance(reply, str) else reply)

    def sent(self, index: int) -> list[dict[str, Any]]:
        return [message.to_wire() for message in self.requests[index].messages]


async def trace_of(program: Program, model: Client, services: dict[str, Any] | None = None, **env: Any) -> Trace:
    """The trace of one rollout that the program drives."""
    trace = await run_rollout(Serves(program, **env), TASK, Services({"policy": model}, **(services or {})))
    if trace.error is not None and trace.error.kind == "env":
        pytest.fail(f"the program, or the gateway, failed:\n{trace.error.traceback}")
    return trace


def linear(trace: Trace) -> bool:
    """Whether each turn is an exact extension of the one before it."""
    parents: Sequence[int | None] = [None, *range(len(trace.turns) - 1)]
    return [turn.parent for turn in trace.turns] == parents


def calling(*calls: tuple[str, str, str], content: str = "", **more: Any) -> Message:
    """A reply with calls: (id, name, arguments)."""
    made = tuple(ToolCall(id=i, name=name, arguments=arguments) for i, name, arguments in calls)
    return Message(role="assistant", content=content, tool_calls=made, **more)


def openai_client(gateway: Gateway, **more: Any) -> openai.AsyncOpenAI:
    env = gateway.env()
    return openai.AsyncOpenAI(base_url=env["OPENAI_BASE_URL"], api_key=env["OPENAI_API_KEY"], **more)


def anthropic_client(gateway: Gateway, **more: Any) -> anthropic.AsyncAnthropic:
    env = gateway.env()
    return anthropic.AsyncAnthropic(base_url=env["ANTHROPIC_BASE_URL"], api_key=env["ANTHROPIC_API_KEY"], **more)
