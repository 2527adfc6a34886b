"""CRUXEval: what a Python function returns, or what makes it return that, judged by running it."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from envkit import Environment, Message, Rollout, Score, SingleTurnEnv, Task, hf_tasks
from envkit.dataset import Dataset
from envkit.rows import Row
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.verify.code import Call, Verdict, judge_calls, nothing_to_run
from envkit.verify.code.programs.codec import Opaque

from .answers import predicted_input, predicted_output
from .prompts import prompt

REVISION = "b96af0450242eb4da433032b90998f25588a5d0f"
LIMITS = ExecLimits(wall=6.0, cpu=3.0)
"""CRUXEval allows 3 s; the clock's limit is wider, for a machine that is busy."""
LONGEST = 100_000
"""Characters of a prediction; the longest gold has 300."""

READ = """
import ast
def predicted(text):
    return ast.literal_eval(text)
"""
"""Reads a predicted output. Only a literal is one: an expression that computes the output predicts nothing."""

CAPTURE = """
def f(*args, **kwargs):
    return [args, kwargs]
def predicted(text):
    return eval(text, globals())
"""
"""Reads the arguments of a predicted call, where the function itself is not there to be tampered with."""

EQUAL = "type('E', (str,), {'__eq__': lambda *_: True, '__hash__': lambda _: 0})()"
"""An object that says of itself that it equals everything, for `check`."""


class Function(BaseModel):
    """A function f, the text of its arguments, and of what it returns for them."""

    model_config = ConfigDict(frozen=True)

    code: str
    input: str
    output: str


class FunctionTask(Task):
    answer: Function


def environment(task: Literal["output", "input"] = "output") -> Environment[FunctionTask]:
    def make(row: Row) -> FunctionTask:
        function = Function(code=row["code"], input=row["input"], output=row["output"])
        ast.literal_eval(function.output)  # a gold that cannot be read names its row
        asked = prompt(task, function.code, function.input, function.output)
        return FunctionTask(id=row["id"], prompt=asked, answer=function)

    tasks = hf_tasks("cruxeval-org/cruxeval", "test", make=make, revision=REVISION)
    return OutputEnv(tasks) if task == "output" else InputEnv(tasks)


class OutputEnv(SingleTurnEnv[FunctionTask]):
    """Asks what f returns."""

    task_type: ClassVar[type[Task]] = FunctionTask

    def __init__(self, tasks: Dataset[FunctionTask]) -> None:
        super().__init__(tasks, rewards=[self.correct], sandbox=SandboxSpec(limits=LIMITS))

    def oracle(self, task: FunctionTask, messages: Sequence[Message]) -> str:
        return f"[ANSWER]\nassert f({task.answer.input}) == {task.answer.output}\n[/ANSWER]"

    def hacks(self, task: FunctionTask, reply: str) -> Mapping[str, str]:
        f = task.answer
        return {
            "the call itself": f"[ANSWER]\nassert f({f.input}) == f({f.input})\n[/ANSWER]",
            "equal to all": f"[ANSWER]\nassert f({f.input}) == {EQUAL}\n[/ANSWER]",
            "early exit": f"[ANSWER]\nassert f({f.input}) == __import__('os')._exit(0)\n[/ANSWER]",
        }

    async def correct(self, rollout: Rollout[Any]) -> Score:
        """1 where the predicted literal equals what f returns."""
        text = predicted_output(rollout.reply)
        if len(text) > LONGEST:
            return Score.of(await nothing_to_run(rollout.fresh_sandbox, "too_long"))
        call = Call("predicted", (text,), expected=_due(rollout))
        return _score(await judge_calls(rollout.fresh_sandbox, READ, [call], compare=_equal), text)


class InputEnv(OutputEnv):
    """Asks for arguments with which f returns the given value."""

    def hacks(self, task: FunctionTask, reply: str) -> Mapping[str, str]:
        due = task.answer.output
        return {
            "a call or the value": f"[ANSWER]\nassert f() or {due} == {due}\n[/ANSWER]",
            "equal to all": f"[ANSWER]\nassert f({EQUAL}) == {due}\n[/ANSWER]",
            "another f": f"[ANSWER]\nassert f(globals().update(f=lambda *_: {due})) == {due}\n[/ANSWER]",
            "early exit": f"[ANSWER]\nassert f(__import__('os')._exit(0)) == {due}\n[/ANSWER]",
        }

    async def correct(self, rollout: Rollout[Any]) -> Score:
        """1 where f, called with the predicted arguments, returns the given value."""
        text = predicted_input(rollout.reply)
        if not text.startswith("f(") or len(text) > LONGEST:
            return Score.of(await nothing_to_run(rollout.fresh_sandbox, "no_call_of_f", answer=text[:200]))
        captured: list[object] = []

        def keep(_expected: object, got: object) -> bool:
            captured.append(got)
            return True

        read = await judge_calls(rollout.fresh_sandbox, CAPTURE, [Call("predicted", (text,))], compare=keep)
        if not read.correct:
            return _score(read, text)
        match captured:
            case [[tuple() as args, dict() as kwargs]] if _plain(captured):
                call = Call("f", args, kwargs, expected=_due(rollout))
            case _:
                return _score(replace(read, correct=False, reason="arguments that are no plain values"), text)
        return _score(await judge_calls(rollout.fresh_sandbox, rollout.task.answer.code, [call], compare=_equal), text)


def _due(rollout: Rollout[Any]) -> object:
    return ast.literal_eval(rollout.task.answer.output)


def _equal(expected: object, got: object) -> bool:
    """Python's own equality, as in CRUXEval: both are plain values, so that no code of the reply runs here."""
    return expected == got


def _plain(value: object) -> bool:
    match value:
        case list() | tuple() | set() | frozenset() | deque():
            return all(map(_plain, value))
        case dict():
            return all(_plain(key) and _plain(item) for key, item in value.items())
        case _:
            return not isinstance(value, Opaque)


def _score(verdict: Verdict, text: str) -> Score:
    return Score.of(verdict).model_copy(update={"answer": text})
