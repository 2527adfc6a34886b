"""Programming contests: programs and functions against hidden tests, as in LiveCodeBench, APPS and CodeContests."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from typing import Any, Literal

from envkit import Environment, Message, Rollout, Score, SingleTurnEnv
from envkit.dataset import Dataset
from envkit.errors import UsageError
from envkit.load import RowDataset
from envkit.rows import HubFileRows, Row
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.verify.code import (
    Call,
    StdioCase,
    Verdict,
    as_json,
    extract,
    judge_calls,
    judge_stdio,
    nothing_to_run,
)

from .shapes import Case, ContestTask, read

REVISION = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
FILES = {f"v{n}": tuple(f"test{i if i > 1 else ''}.jsonl" for i in range(1, n + 1)) for n in range(1, 7)}
"""What each release of LiveCodeBench is made of: every one adds a file to the one before."""

PROGRAM = "Write a Python program that reads its input from stdin and prints the answer to stdout."
FUNCTION = "Complete this Python code; keep its names.\n```python\n{code}\n```"
FORM = "Reply with the whole program in one code block."

HEADER = (
    "import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string, sys\n"
    "from collections import *\nfrom functools import *\nfrom itertools import *\nfrom typing import *\n"
)
"""Imported before the reply's code: the starter code of contests uses such names without importing them."""

SECONDS = 6.0
"""Processor time for one test, as in LiveCodeBench; the clock's limit is twice that, for a machine that is busy."""
MOST = 60.0
"""Seconds for all calls of a function."""
MEMORY = 1 << 30


def environment(
    release: Literal["v1", "v2", "v3", "v4", "v5", "v6"] = "v6",
    start_date: date | None = None,
    end_date: date | None = None,
) -> Environment[ContestTask]:
    """Tasks published from `start_date` to `end_date`, both included; with either, those without a date are out."""

    def make(row: Row) -> ContestTask:
        task = read(row)
        return task.model_copy(update={"prompt": _prompt(task)})

    def in_window(task: ContestTask) -> bool:
        if start_date is None and end_date is None:
            return True
        when = task.published
        return when is not None and (start_date or when) <= when <= (end_date or when)

    rows = HubFileRows("livecodebench/code_generation_lite", FILES[release], revision=REVISION)
    return StdioCodeEnv(RowDataset(rows, make).filter(in_window))


class StdioCodeEnv(SingleTurnEnv[ContestTask]):
    """The problem with its public examples; every test must pass, hidden or not."""

    task_type = ContestTask

    def __init__(self, tasks: Dataset[ContestTask]) -> None:
        super().__init__(tasks, rewards=[self.passed], sandbox=SandboxSpec(limits=ExecLimits(memory=MEMORY)))

    def oracle(self, task: ContestTask, messages: Sequence[Message]) -> str:
        if task.answer is None:
            raise UsageError(f"There is no solution in the row of {task.id!r}, so no oracle for it.")
        return f"```python\n{task.answer}\n```"

    async def passed(self, rollout: Rollout[Any]) -> Score:
        """1 where every test of the task passes."""
        task: ContestTask = rollout.task
        program = extract(rollout.reply, must_define=task.function)
        if program is None:
            return Score.of(await nothing_to_run(rollout.fresh_sandbox, "no_code"))
        source = _with_imports(program.source)
        cases = [*task.examples, *task.hidden]
        verdict = await (_run(rollout, source, cases) if task.function is None else _call(rollout, source, cases))
        return Score.of(verdict).model_copy(update={"answer": program.source, "span": program.span})


async def _run(rollout: Rollout[Any], source: str, cases: Sequence[Case]) -> Verdict:
    limits = ExecLimits(wall=2 * SECONDS, cpu=SECONDS, memory=MEMORY)
    due = [StdioCase(case.input, case.output) for case in cases]
    return await judge_stdio(rollout.fresh_sandbox, source, due, checker=rollout.task.checker, limits=limits)


async def _call(rollout: Rollout[Any], source: str, cases: Sequence[Case]) -> Verdict:
    """Results are compared as JSON, which has no tuples."""
    seconds = min(MOST, SECONDS * len(cases))
    limits = ExecLimits(wall=2 * seconds, cpu=seconds, memory=MEMORY)
    function = rollout.task.function
    calls = [Call(function, _arguments(case), expected=json.loads(case.output)) for case in cases]
    return await judge_calls(rollout.fresh_sandbox, source, calls, limits=limits, compare=as_json)


def _arguments(case: Case) -> list[Any]:
    return [json.loads(line) for line in case.input.splitlines() if line.strip()]


def _prompt(task: ContestTask) -> str:
    parts = [task.question.strip()]
    for number, case in enumerate(task.examples, start=1):
        parts.append(f"Example {number}\n\nInput:\n{_shown(case.input)}\n\nOutput:\n{_shown(case.output)}")
    if task.starter_code.strip():
        parts.append(FUNCTION.format(code=task.starter_code.rstrip()))
    else:
        parts.append(PROGRAM if task.function is None else f"Write a Python function named {task.function}.")
    return "\n\n".join([*parts, FORM])


def _shown(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


def _with_imports(source: str) -> str:
    """The program below the usual imports, unless its own must come first."""
    return source if re.search(r"^from __future__", source, re.MULTILINE) else HEADER + source
