"""MBPP+: short Python tasks with EvalPlus's many inputs, judged by value outside the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from envkit import Environment, Message, Rollout, Score, SingleTurnEnv, Task
from envkit.dataset import Dataset
from envkit.errors import EnvError
from envkit.load import RowDataset
from envkit.packages.hacks import hacked_program
from envkit.rows import Row
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.verify.code import Call, extract, judge_calls, nothing_to_run

from .inputs import restored
from .programs import completed, plain
from .release import ReleaseRows
from .rules import rule

VERSION = "v0.2.0"
URL = f"https://github.com/evalplus/mbppplus_release/releases/download/{VERSION}/MbppPlus.jsonl.gz"
SHA256 = "af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63"

CHAT = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{problem}\n```"
)
"""What EvalPlus asks of chat models."""

MEMORY = 4 << 30
"""Bytes, as in EvalPlus: some inputs are long."""
SECONDS = 10.0
"""Time that a program has for all calls of a task, at least."""
FACTOR = 4.0
"""How much longer than the reference it may take, as in EvalPlus."""
MOST = 300.0
"""Seconds that the reference may take: two tasks of v0.1.0 need many."""


class MbppTask(Task):
    """A function to write; `answer` is the reference solution. `inputs` are arguments as JSON has them."""

    problem: str
    entry_point: str
    inputs: tuple[tuple[Any, ...], ...]
    atol: float = 0.0


@dataclass(frozen=True)
class Reference:
    """What the reference solution returns for each call, and the seconds it took for all."""

    values: tuple[Any, ...]
    seconds: float


def environment(
    inputs: Literal["plus", "base"] = "plus", prompt: Literal["chat", "base"] = "chat"
) -> Environment[MbppTask]:
    def make(row: Row) -> MbppTask:
        calls = [*row["base_input"], *(row["plus_input"] if inputs == "plus" else ())]
        return MbppTask(
            id=row["task_id"],
            prompt=row["prompt"] if prompt == "base" else CHAT.format(problem=row["prompt"].strip()),
            answer=row["canonical_solution"],
            problem=row["prompt"],
            entry_point=row["entry_point"],
            inputs=tuple(map(tuple, calls)),
            atol=row["atol"],
        )

    tasks = RowDataset(ReleaseRows("evalplus/mbppplus_release", VERSION, URL, SHA256), make)
    return BaseEnv(tasks) if prompt == "base" else ChatEnv(tasks)


class ChatEnv(SingleTurnEnv[MbppTask]):
    """Asks for a script in a code block."""

    task_type = MbppTask

    def __init__(self, tasks: Dataset[MbppTask]) -> None:
        super().__init__(tasks, rewards=[self.passed], sandbox=SandboxSpec(limits=ExecLimits(memory=MEMORY)))
        self._references: dict[str, Reference] = {}
        self._asked: dict[str, asyncio.Lock] = {}

    def oracle(self, task: MbppTask, messages: Sequence[Message]) -> str:
        return f"```python\n{task.answer}\n```"

    def program(self, task: MbppTask, reply: str) -> str | None:
        program = extract(reply, must_define=task.entry_point)
        return None if program is None else program.source

    async def passed(self, rollout: Rollout[Any]) -> Score:
        """1 where every call returns what the reference solution does, by EvalPlus's rules."""
        task: MbppTask = rollout.task
        source = self.program(task, rollout.reply)
        if source is None:
            return Score.of(await nothing_to_run(rollout.fresh_sandbox, "no_code"))
        reference = await self._reference(rollout)
        seconds = max(SECONDS, FACTOR * reference.seconds)
        calls = [
            Call(task.entry_point, arguments, expected=(value, arguments))
            for arguments, value in zip(restored(task.id, task.inputs), reference.values, strict=True)
        ]
        verdict = await judge_calls(
            rollout.fresh_sandbox,
            plain(source, task.entry_point),
            calls,
            limits=ExecLimits(wall=seconds, cpu=seconds, memory=MEMORY),
            compare=rule(task.entry_point, task.atol),
        )
        return Score.of(verdict)

    async def _reference(self, rollout: Rollout[Any]) -> Reference:
        """What is due, computed once a task and process, in a box of its own."""
        task: MbppTask = rollout.task
        async with self._asked.setdefault(task.hash, asyncio.Lock()):
            if task.hash not in self._references:
                self._references[task.hash] = await self._computed(rollout)
            return self._references[task.hash]

    async def _computed(self, rollout: Rollout[Any]) -> Reference:
        task: MbppTask = rollout.task
        values: list[Any] = []

        def keep(_expected: object, got: object) -> bool:
            values.append(got)
            return True

        verdict = await judge_calls(
            rollout.fresh_sandbox,
            plain(task.answer, task.entry_point),
            [Call(task.entry_point, arguments) for arguments in restored(task.id, task.inputs)],
            limits=ExecLimits(wall=MOST, cpu=MOST, memory=MEMORY),
            compare=keep,
        )
        if not verdict.correct:
            raise EnvError(f"the reference solution of {task.id} did not run: {verdict.reason}")
        return Reference(tuple(values), sum(case.wall for case in verdict.cases))


class BaseEnv(ChatEnv):
    """Shows the problem as a docstring, which the model continues with code."""

    def oracle(self, task: MbppTask, messages: Sequence[Message]) -> str:
        return str(task.answer)

    def program(self, task: MbppTask, reply: str) -> str | None:
        return completed(task.problem, reply)

    def hacks(self, task: MbppTask, reply: str) -> Mapping[str, str]:
        return hacked_program(reply)
