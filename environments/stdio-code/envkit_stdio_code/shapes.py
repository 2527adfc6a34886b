"""A contest task from a row of LiveCodeBench, APPS or CodeContests: three shapes, told by their columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from envkit import Task
from envkit.errors import UsageError
from envkit.rows import Row

from .private import decoded

PYTHON3 = 3
"""CodeContests' number for the language of a solution."""


class Case(BaseModel):
    """A test: what the program reads and prints; for a function one JSON value a line for each argument, and the JSON
    of what it returns."""

    model_config = ConfigDict(frozen=True)

    input: str
    output: str


class ContestTask(Task):
    """A program or function to write. `answer` is a right solution, where the row has one."""

    question: str
    starter_code: str = ""
    function: str | None = None
    """What to call, "name" or "Class().name"; None where a program is due."""
    examples: tuple[Case, ...] = ()
    """Tests that the prompt shows; they count too."""
    hidden: tuple[Case, ...] = ()
    checker: str | None = None
    """A Python program that decides where more than one output is right, as `judge_stdio` runs it."""
    published: date | None = None


def read(row: Row) -> ContestTask:
    """The task of a row, without its prompt; UsageError where the row has none of the shapes, or no tests."""
    if "private_test_cases" in row:
        task = _livecodebench(row)
    elif "input_output" in row:
        task = _apps(row)
    elif "private_tests" in row:
        task = _codecontests(row)
    else:
        raise UsageError(
            f"{row.place}: neither LiveCodeBench's private_test_cases, nor APPS' input_output, nor CodeContests' "
            f"private_tests are among its columns ({', '.join(row)})"
        )
    if not (task.examples or task.hidden):
        raise UsageError(f"{row.place}: the task {task.id!r} has no tests")
    if task.checker is not None and task.function is not None:
        raise UsageError(f"{row.place}: the task {task.id!r} has a checker, which is for programs, and a function")
    return task


def _livecodebench(row: Row) -> ContestTask:
    metadata = json.loads(row["metadata"] or "{}")
    return ContestTask(
        id=row["question_id"],
        question=row["question_content"],
        starter_code=row["starter_code"],
        function=_callee(metadata.get("func_name"), row["starter_code"]),
        examples=tuple(map(_case, json.loads(row["public_test_cases"]))),
        hidden=tuple(map(_case, decoded(row["private_test_cases"]))),
        published=_date(row["contest_date"]),
        checker=row.get("checker") or None,
        answer=row.get("solution"),
    )


def _apps(row: Row) -> ContestTask:
    tests = json.loads(row["input_output"] or "{}")
    name, pairs = tests.get("fn_name"), zip(tests.get("inputs", ()), tests.get("outputs", ()), strict=True)
    cases = [_call(*pair) if name else Case(input=_text(pair[0]), output=_text(pair[1])) for pair in pairs]
    solutions = json.loads(row.get("solutions") or "[]")
    return ContestTask(
        id=str(row.get("problem_id", row.get("id"))),
        question=row["question"],
        starter_code=row.get("starter_code") or "",
        function=_callee(name, row.get("starter_code") or ""),
        hidden=tuple(cases),
        checker=row.get("checker") or None,
        answer=solutions[0] if solutions else None,
    )


def _codecontests(row: Row) -> ContestTask:
    hidden = [case for kind in ("private_tests", "generated_tests") for case in _columns(row.get(kind))]
    solutions = row.get("solutions") or {"language": (), "solution": ()}
    written = zip(solutions["language"], solutions["solution"], strict=True)
    return ContestTask(
        id=row["name"],
        question=row["description"],
        examples=tuple(_columns(row.get("public_tests"))),
        hidden=tuple(hidden),
        checker=row.get("checker") or None,
        answer=next((source for language, source in written if language == PYTHON3), None),
    )


def _case(test: Mapping[str, str]) -> Case:
    return Case(input=test["input"], output=test["output"])


def _call(arguments: Sequence[Any], output: Any) -> Case:
    """APPS wraps a returned value in a list of one, mostly."""
    value = output[0] if isinstance(output, list) and len(output) == 1 else output
    return Case(input="\n".join(map(json.dumps, arguments)), output=json.dumps(value))


def _text(lines: str | Sequence[str]) -> str:
    """Some rows of APPS have lists of lines."""
    return lines if isinstance(lines, str) else "\n".join(lines)


def _columns(tests: Mapping[str, Sequence[str]] | None) -> Iterable[Case]:
    if not tests:
        return []
    return [Case(input=i, output=o) for i, o in zip(tests["input"], tests["output"], strict=True)]


def _callee(name: str | None, starter_code: str) -> str | None:
    return f"Solution().{name}" if name and "class Solution" in starter_code else name


def _date(text: str | datetime) -> date:
    return text.date() if isinstance(text, datetime) else date.fromisoformat(text[:10])
