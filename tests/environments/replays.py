"""What the tests of the code environments share: rollouts of scripted, recorded and right replies, some at a time."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from material import material

from envkit.clients.base import Client
from envkit.clients.scripted import Nop, Oracle, Replay, Scripted
from envkit.environment import Environment
from envkit.lifecycle import run_rollout
from envkit.packages.find import find
from envkit.rollout import POLICY, Services
from envkit.sandbox.pool import Boxes
from envkit.task import Task
from envkit.trace import Score, Trace

AT_ONCE = 2


async def rollouts(env: Environment[Any], client: Client, tasks: Sequence[Task] | None = None) -> dict[str, Trace]:
    """A trace for each task, by its id; in slots, whatever else this machine has."""
    free, boxes = asyncio.Semaphore(AT_ONCE), Boxes("slot")
    services = Services({POLICY: client}, boxes=boxes)

    async def one(task: Task) -> Trace:
        async with free:
            return await run_rollout(env, task, services)

    try:
        traces = await asyncio.gather(*[one(task) for task in (env.tasks if tasks is None else tasks)])
    finally:
        await env.end()
        await boxes.close()
    return {trace.task_id: trace for trace in traces}


async def right(name: str, data: str, **args: str) -> dict[str, Trace]:
    """Traces of the oracle's replies."""
    env = find(name).load(data, **args)
    return await rollouts(env, Oracle(env))


async def silent(name: str, data: str, **args: str) -> dict[str, Trace]:
    """Traces of empty replies."""
    return await rollouts(find(name).load(data, **args), Nop())


async def replayed(name: str, file: str, data: str | None = None, **args: str) -> dict[str, Trace]:
    """Traces of the recorded replies in a file of the material."""
    path = material(f"replay/{file}")
    return await rollouts(find(name).load(data or f"replay:{path}", **args), Replay(path))


async def scored(name: str, task_id: str, reply: str, **args: str) -> Score:
    """What the one reward of an environment says of a reply to a task of its sample."""
    env = find(name).load("sample", **args)
    [task] = [task for task in env.tasks if task.id == task_id]
    [trace] = (await rollouts(env, Scripted([reply]), [task])).values()
    assert trace.error is None, trace.error
    [score] = trace.scores.values()
    return score


def recorded(file: str, score: str | None = None) -> dict[str, float]:
    """The scores in a file of the material: the published ones, or those of another name."""
    rows = map(json.loads, material(f"replay/{file}").read_text(encoding="utf-8").splitlines())
    return {row["task_id"]: row["expected_score"] if score is None else row["scores"][score] for row in rows}


def flips(traces: Mapping[str, Trace], scores: Mapping[str, float]) -> dict[str, float | None]:
    """Where a reward is not the recorded score: the reward."""
    assert traces.keys() == scores.keys()
    return {name: trace.reward for name, trace in sorted(traces.items()) if trace.reward != scores[name]}


def total(traces: Mapping[str, Trace]) -> float:
    assert {trace.outcome for trace in traces.values()} == {"completed"}
    return sum(trace.reward or 0.0 for trace in traces.values())
