"""Cuts an episode short at every turn that it could have: what was done until then is scored, and nothing breaks."""

from collections.abc import Sequence
from typing import Any

from envkit.clients.base import Client
from envkit.environment import Environment
from envkit.lifecycle import run_rollout
from envkit.rollout import POLICY, Services
from envkit.sandbox.pool import Boxes
from envkit.task import Task
from envkit.trace import Trace

MOST = 60
"""Turns after which an episode that goes on is no longer believed to end."""


async def cut_everywhere(
    env: Environment[Any], tasks: Sequence[Task], client: Client, *, models: dict[str, Client] | None = None
) -> dict[str, list[Trace]]:
    """Traces by task, of an episode cut after 0, 1, 2, ... turns of the policy, the last one whole.

    Each cut one must be truncated for `max_turns` and have every reward; the whole one must be completed. `models`
    are those of the roles beside the policy.
    """
    boxes = Boxes("slot")
    try:
        return {task.id: await _cuts(env, task, {**(models or {}), POLICY: client}, boxes) for task in tasks}
    finally:
        await env.end()
        await boxes.close()


async def _cuts(env: Environment[Any], task: Task, models: dict[str, Client], boxes: Boxes) -> list[Trace]:
    traces: list[Trace] = []
    for most in range(MOST):
        limits = env.limits.model_copy(update={"max_turns": most})
        trace = await run_rollout(env, task, Services(models, limits=limits, boxes=boxes))
        assert trace.error is None, (task.id, most, trace.error)
        assert set(trace.rewards) == {reward.name for reward in env.rewards}, (task.id, most)
        assert trace.reward is not None, (task.id, most, trace.scores)
        traces.append(trace)
        if trace.outcome == "completed":
            return traces
        assert (trace.outcome, trace.stop) == ("truncated", "max_turns"), (task.id, most, trace.stop)
    raise AssertionError(f"{task.id} did not end within {MOST} turns")
