"""GSM8K with a Python session as a tool: word problems that may be computed, graded by value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from envkit import Environment, Limits, Message, Rollout, Score, Task, hf_tasks
from envkit.clients.scripted import call
from envkit.errors import UsageError
from envkit.rows import Row
from envkit.sandbox import SandboxSpec
from envkit.sandbox.tools import python
from envkit.verify.math import agrade
from envkit.verify.math.reward import correct, correct_lenient, reference

REVISION = "740312add88f781978c0658806c59bc2815b9866"
PROMPT = (
    "Solve the problem step by step. The tool `python` runs code for you: use it for every computation. "
    "Put the final answer within \\boxed{}."
)
MAX_TURNS = 6
SECONDS = 10.0
"""Of one piece of code: all of it is arithmetic."""

_FINAL = re.compile(r"#### (\-?[0-9\.\,]+)")  # as in openai/grade-school-math


def environment(split: str = "test", grader: Literal["boxed", "tora"] = "boxed") -> Environment[Task]:
    tasks = hf_tasks("openai/gsm8k", split, config="main", prompt="question", answer=gold, revision=REVISION)
    return PythonEnv(
        tasks,
        rewards=[correct if grader == "boxed" else correct_or_printed],
        metrics=[correct_lenient] if grader == "boxed" else [],
        system_prompt=PROMPT,
        limits=Limits(max_turns=MAX_TURNS),
        sandbox=SandboxSpec(),
    )


class PythonEnv(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        await rollout.chat.run_tools([python(rollout.sandbox, timeout=SECONDS)])

    def oracle(self, task: Task, messages: Sequence[Message]) -> str | Message:
        """Computes the answer, then boxes what was printed."""
        if messages[-1].role != "tool":
            return call("python", code=f"print({task.answer!r})")
        return f"The answer is \\boxed{{{messages[-1].text}}}."


async def correct_or_printed(rollout: Rollout[Any]) -> Score:
    """As ToRA's evaluation has it: the boxed answer, or where there is no box, what the code printed last.

    Source: `extract_answer` of https://github.com/microsoft/ToRA (Gou et al. 2023, arXiv:2309.17452).
    """
    said = await correct(rollout)
    printed = next((m.text for m in reversed(rollout.messages) if m.role == "tool"), "")
    if said.answer is not None or not printed:
        return said
    return Score.of(await agrade(reference(rollout.task), f"\\boxed{{{printed}}}", extract="strict"))


def gold(row: Row) -> str:
    """The number that a solution of the dataset ends with."""
    final = _FINAL.search(str(row["answer"]))
    if final is None:
        raise UsageError(f"{row.place}: the answer has no line '#### NUMBER'")
    return final[1].replace(",", "")
