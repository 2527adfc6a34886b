"""An engine that gives token ids and logprobs, with a chat template of its own, and what should train of its calls."""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from envkit import Environment, Message, Rollout, Services, Task, run_rollout
from envkit.clients.base import Client, Completion, Request
from envkit.samples import Sample
from envkit.trace import Trace

TASK = Task(id="t", prompt="1 2")
MARK = {"system": 1000, "user": 1001, "assistant": 1002, "tool": 1003}
END = 1010
MERGED = 2000


@dataclass
class Call:
    """One call as the engine saw it."""

    agent: str
    trains: bool
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    logprobs: tuple[float, ...]
    version: str
    temperature: float


@dataclass
class Engine(Client):
    """An engine whose tokens are the words of the text, each a number.

    A call's sampling is its script: `says` (the completion), `ends` (whether it has an end token), `merges` (the
    prompt's replies are tokenised anew, in other tokens), `slow` (how often others go first), `trains` (what the test
    expects of the chat). Every token has a logprob of its own.
    """

    calls: list[Call] = field(default_factory=list[Call])
    number: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def complete(self, request: Request) -> Completion:
        assert request.tokens
        script = {"says": [5], "ends": True, "merges": False, "slow": 0, "trains": True, "temperature": 1.0}
        script |= request.sampling
        for _ in range(script["slow"]):
            await asyncio.sleep(0)
        ids = array("i", [*rendered(request.messages, merges=script["merges"]), MARK["assistant"]])
        new = array("i", [*script["says"], END] if script["ends"] else script["says"])
        logprobs = array("f", [-float(next(self.number)) for _ in new])
        version = f"step-{len(self.calls) // 3}"
        self.calls.append(
            Call(
                request.agent, script["trains"], tuple(ids), tuple(new), tuple(logprobs), version, script["temperature"]
            )
        )
        return Completion(
            Message.assistant(" ".join(map(str, script["says"]))),
            prompt_ids=ids,
            completion_ids=new,
            logprobs=logprobs,
            version=version,
            sampling={"temperature": script["temperature"]},
        )


def rendered(messages: Sequence[Message], *, merges: bool = False) -> list[int]:
    """The chat template: a mark, the words, the end."""
    ids: list[int] = []
    for message in messages:
        words = [int(word) for word in message.text.split()]
        if merges and message.role == "assistant" and len(words) > 1:
            words = [MERGED + words[0], *words[2:]]
        ids += [MARK[message.role], *words, END]
    return ids


class Run(Environment[Task]):
    """An environment whose `run` is this function."""

    def __init__(self, episode: Callable[[Rollout[Task]], Awaitable[Any]], **more: Any) -> None:
        super().__init__([TASK], **more)
        self.episode = episode

    async def run(self, rollout: Rollout[Task]) -> None:
        await self.episode(rollout)


async def play(
    episode: Callable[[Rollout[Task]], Awaitable[Any]], task: Task = TASK, **more: Any
) -> tuple[Trace, list[Call]]:
    """The trace of this episode, run with tokens, and the calls as the engine saw them."""
    engine = Engine()
    trace = await run_rollout(Run(episode, **more), task, Services({"policy": engine}, tokens=True))
    assert trace.outcome != "failed", trace.error
    assert len(trace.turns) == len(engine.calls)
    return trace, engine.calls


def trained(batch: Sequence[Sample]) -> Counter[Any]:
    """Each token that trains, with all that a trainer computes its loss from."""
    return Counter(
        (s.agent, tuple(s.ids[:i]), s.ids[i], s.logprobs[i], s.versions[i], s.temperatures[i])
        for s in batch
        for i, mask in enumerate(s.mask)
        if mask
    )


def due(calls: Sequence[Call]) -> Counter[Any]:
    """Each token that should train, from what the engine saw."""
    return Counter(
        (call.agent, call.prompt + call.completion[:i], token, call.logprobs[i], call.version, call.temperature)
        for call in calls
        if call.trains
        for i, token in enumerate(call.completion)
    )
