"""MultiPL-E: HumanEval in JavaScript, judged by its tests in a second sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from envkit import Environment, Message, Rollout, Score, SingleTurnEnv, Task, hf_tasks
from envkit.dataset import Dataset
from envkit.errors import UsageError
from envkit.packages.hacks import JAVASCRIPT_BODIES
from envkit.rows import Row
from envkit.sandbox import SandboxSpec
from envkit.verify.code import BrokenTests, extract, judge_asserts, nothing_to_run

REVISION = "28441b6024e71d4a1c1c0f6bf171c935cd5a43f2"
CHAT = "Complete this JavaScript function. Reply with the whole of it in one code block.\n```javascript\n{code}\n```"

_CANDIDATE = re.compile(r"let candidate = ([\w$]+);")


class FunctionTask(Task):
    """A function to write. `code` is what the dataset begins it with; `answer` the rest, where a row has a solution."""

    code: str
    entry_point: str
    tests: str
    stops: tuple[str, ...]


def environment(prompt: Literal["chat", "base"] = "chat") -> Environment[FunctionTask]:
    def make(row: Row) -> FunctionTask:
        code, candidate = row["prompt"], _CANDIDATE.search(row["tests"])
        if candidate is None:
            raise UsageError(f"{row.place}: the tests have no 'let candidate = NAME;'")
        return FunctionTask(
            id=row["name"],
            prompt=code if prompt == "base" else CHAT.format(code=code.strip()),
            answer=row.get("solution"),
            code=code,
            entry_point=candidate[1],
            tests=row["tests"],
            stops=tuple(row["stop_tokens"]),
        )

    tasks = hf_tasks("nuprl/MultiPL-E", "test", config="humaneval-js", make=make, revision=REVISION)
    return BaseEnv(tasks) if prompt == "base" else ChatEnv(tasks)


class ChatEnv(SingleTurnEnv[FunctionTask]):
    """Asks for the whole function in a code block."""

    task_type = FunctionTask

    def __init__(self, tasks: Dataset[FunctionTask]) -> None:
        super().__init__(tasks, rewards=[self.passed], sandbox=SandboxSpec())

    def oracle(self, task: FunctionTask, messages: Sequence[Message]) -> str:
        return f"```javascript\n{task.code}{_solution(task)}```"

    def program(self, task: FunctionTask, reply: str) -> str | None:
        """The code block that defines the function."""
        program = extract(reply, language="javascript", must_define=task.entry_point)
        return None if program is None else program.source

    async def passed(self, rollout: Rollout[Any]) -> Score:
        """1 where every assertion of the task holds."""
        task: FunctionTask = rollout.task
        source = self.program(task, rollout.reply)
        if source is None:
            return Score.of(await nothing_to_run(rollout.fresh_sandbox, "no_code", language="javascript"))
        try:
            verdict = await judge_asserts(
                rollout.fresh_sandbox, source, task.tests, function=task.entry_point, language="javascript"
            )
        except BrokenTests as broken:  # which no program passes, and MultiPL-E's own harness counts: so do its scores
            verdict = await nothing_to_run(rollout.fresh_sandbox, str(broken), language="javascript", answer=source)
        return Score.of(verdict)


class BaseEnv(ChatEnv):
    """Shows the function's beginning alone, which the model continues."""

    def oracle(self, task: FunctionTask, messages: Sequence[Message]) -> str:
        return _solution(task)

    def program(self, task: FunctionTask, reply: str) -> str | None:
        """The prompt and its continuation, cut at the row's first stop, whether or not the reply repeats the prompt."""
        if not reply.strip():
            return None
        rest = reply.removeprefix(task.code)
        return task.code + rest[: min(i for stop in task.stops if (i := (rest + stop).find(stop)) >= 0)]

    def hacks(self, task: FunctionTask, reply: str) -> Mapping[str, str]:
        return JAVASCRIPT_BODIES


def _solution(task: FunctionTask) -> str:
    if task.answer is None:
        raise UsageError(f"MultiPL-E has no solutions, so there is no oracle for {task.id!r}; the sample has them.")
    return str(task.answer)
