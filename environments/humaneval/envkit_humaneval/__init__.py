"""HumanEval: Python functions to write from their docstrings, judged by their tests in a second sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from envkit import Environment, Message, Rollout, Score, SingleTurnEnv, Task, hf_tasks
from envkit.dataset import Dataset
from envkit.packages.hacks import BODIES
from envkit.rows import Row
from envkit.sandbox import SandboxSpec
from envkit.verify.code import judge_asserts, nothing_to_run

from .programs import completed, left_out, opening, replied

REVISION = "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"
CHAT = (
    "Please continue to complete the function and return all completed code in a codeblock. "
    "Here is the given code to do completion:\n```python\n{code}\n```"
)
"""What the Qwen2.5-Coder evaluations ask of instruction-tuned models."""


class FunctionTask(Task):
    """A function to write. `code` is what the dataset begins it with; `answer` the body that it gives."""

    code: str
    entry_point: str
    tests: str
    """A program that calls the function as `candidate` and raises where it is wrong."""


def environment(prompt: Literal["chat", "base"] = "chat") -> Environment[FunctionTask]:
    def make(row: Row) -> FunctionTask:
        code, name = row["prompt"], row["entry_point"]
        return FunctionTask(
            id=row["task_id"],
            prompt=code if prompt == "base" else CHAT.format(code=code.strip()),
            answer=row["canonical_solution"],
            code=code,
            entry_point=name,
            tests=f"{row['test']}\n\ncheck(candidate)\n",
        )

    tasks = hf_tasks("openai/openai_humaneval", "test", config="openai_humaneval", make=make, revision=REVISION)
    return BaseEnv(tasks) if prompt == "base" else ChatEnv(tasks)


class ChatEnv(SingleTurnEnv[FunctionTask]):
    """Asks for the whole function in a code block."""

    task_type = FunctionTask

    def __init__(self, tasks: Dataset[FunctionTask]) -> None:
        super().__init__(tasks, rewards=[self.passed], sandbox=SandboxSpec())

    def oracle(self, task: FunctionTask, messages: Sequence[Message]) -> str:
        return f"```python\n{task.code}{task.answer}```"

    def program(self, task: FunctionTask, reply: str) -> str | None:
        return replied(task.code, task.entry_point, reply)

    async def passed(self, rollout: Rollout[Any]) -> Score:
        """1 where every test of the task holds."""
        task: FunctionTask = rollout.task
        source = self.program(task, rollout.reply)
        if source is None:
            return Score.of(await nothing_to_run(rollout.fresh_sandbox, "no_code"))
        if missing := left_out(task.code, task.entry_point, task.tests, source):
            reason = f"the reply leaves out {missing}, which the tests call"
            return Score.of(await nothing_to_run(rollout.fresh_sandbox, reason, answer=source))
        verdict = await judge_asserts(
            rollout.fresh_sandbox,
            source,
            task.tests,
            function=task.entry_point,
            context=opening(task.code, task.entry_point),
        )
        return Score.of(verdict)


class BaseEnv(ChatEnv):
    """Shows the function's beginning alone, which the model continues."""

    def oracle(self, task: FunctionTask, messages: Sequence[Message]) -> str:
        return str(task.answer)

    def program(self, task: FunctionTask, reply: str) -> str | None:
        return completed(task.code, task.entry_point, reply)

    def hacks(self, task: FunctionTask, reply: str) -> Mapping[str, str]:
        return BODIES
