"""What the mathematics environments share: how they ask for an answer, and how a boxed one is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envkit.environment import SingleTurnEnv
from envkit.rollout import Rollout
from envkit.task import Task
from envkit.trace import Score
from envkit.types import Message
from envkit.verify.math import agrade

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
"""The system prompt of the Qwen2.5-Math evaluations."""


class BoxedEnv(SingleTurnEnv[Task]):
    """One question, one reply, and the answer in a box: the oracle gives just that."""

    def oracle(self, task: Task, messages: Sequence[Message]) -> str:
        return f"\\boxed{{{task.answer}}}"


async def correct(rollout: Rollout[Any]) -> Score:
    """1 where the boxed answer equals the task's; None where the task's cannot be read."""
    return Score.of(await agrade(rollout.task.answer, rollout.reply, extract="strict"))


async def correct_lenient(rollout: Rollout[Any]) -> Score:
    """As `correct`, but "the answer is" and its like count too where there is no box; where there is one, the same."""
    strict = rollout.trace.scores.get(correct.__name__)
    if strict is not None and strict.answer is not None:
        return strict
    return Score.of(await agrade(rollout.task.answer, rollout.reply, extract="lenient"))
