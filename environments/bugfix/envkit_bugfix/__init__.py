"""Repositories with a bug that a user reports: an agent repairs one with a shell and an editor, hidden tests judge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from envkit import Done, Environment, Limits, Message, Rollout, Score
from envkit.adapters.harbor import HarborTask, harbor_tasks, install
from envkit.clients.scripted import call
from envkit.dataset import Dataset
from envkit.sandbox import ExecLimits
from envkit.sandbox.tools import edit, shell

from .changes import changed, patched, trees
from .compact import compact, longest
from .judge import BESIDE, judge

TASKS = Path(__file__).with_name("tasks")
MAX_TURNS = 40
TESTING = ExecLimits(wall=60.0, cpu=20.0)
"""Of all hidden tests of a task, which take a second or two: a repair that never ends is a wrong one."""
SYSTEM = """\
You repair software. The repository is in the current folder of a Linux box; the tools run commands there and edit its \
files. Find the cause of what the user reports and repair it in the package; its tests are yours to read and run, and \
what you change in them does not count. Call `submit` when you are done."""


def environment(window: int = 32_768, network: Literal["none", "loopback"] = "none") -> Environment[HarborTask]:
    """`window` is the model's, in tokens: where it fills, older results are shortened. `network` is the boxes'."""
    tasks = [_with_network(task, network) for task in harbor_tasks(TASKS)]
    env = BugfixEnv(
        Dataset(tasks),
        rewards=[repaired],
        system_prompt=SYSTEM,
        limits=Limits(max_turns=MAX_TURNS, tool_output=longest(window)),
        sandbox=tasks[0].sandbox,
    )
    env.window = window
    return env


class BugfixEnv(Environment[HarborTask]):
    task_type = HarborTask
    window = 32_768

    async def run(self, rollout: Rollout[HarborTask]) -> None:
        rollout.at_end(lambda: keep(rollout))
        await install(rollout.sandbox, rollout.task)
        await self.work(rollout)

    async def work(self, rollout: Rollout[HarborTask]) -> None:
        """The agent's part, until it submits, answers without a call, or a limit ends it."""
        chat, tools = rollout.chat, [shell(rollout.sandbox), edit(rollout.sandbox), submit]
        try:
            reply = await chat.generate(tools=tools)
            while reply.tool_calls:
                await chat.call(reply.tool_calls, tools)
                compact(chat.messages, rollout.trace.turns[-1].usage, self.window)
                reply = await chat.generate(tools=tools)
        except Done:
            return

    def oracle(self, task: HarborTask, messages: Sequence[Message]) -> Message:
        """The task's own solution, and then `submit`."""
        if messages[-1].role == "tool":
            return call("submit")
        return call("shell", command=(folder(task) / "solution/solve.sh").read_text(encoding="utf-8"))


def submit() -> None:
    """Hand in the repository as it is now. This ends your work."""
    raise Done


async def keep(rollout: Rollout[Any]) -> None:
    """Have what the agent changed, and may change, in `info`: all that the tests will see of its box."""
    original = repository(rollout.task.id)
    try:
        allowed = rollout.task.metadata["allowed"]
        rollout.info["changed"] = changed(original, await trees(rollout.sandbox, allowed), allowed)
    except ValueError as problem:
        rollout.info["refused"] = str(problem)[:500]


async def repaired(rollout: Rollout[Any]) -> Score:
    """1 where every hidden test passes, in a fresh box with the agent's changes over the repository as it was."""
    if "refused" in rollout.info:
        return Score(value=0.0, reason=f"the changes cannot be taken: {rollout.info['refused']}")
    if not rollout.info["changed"]:
        return Score(value=0.0, reason="nothing was changed")
    files = patched(repository(rollout.task.id), rollout.info["changed"])
    tests = folder(rollout.task) / "tests"
    if (beside := tests / f"{BESIDE}.py").exists():
        files[beside.name] = beside.read_bytes()
    [package] = rollout.task.metadata["allowed"]
    hidden = (tests / "test_hidden.py").read_text(encoding="utf-8")
    return Score.of(await judge(rollout.fresh_sandbox, files, package, hidden, limits=TESTING))


def folder(task: HarborTask) -> Path:
    """Where this installation has the task, wherever it lay when it was recorded."""
    return TASKS / task.id


@lru_cache(maxsize=64)
def repository(name: str) -> dict[str, bytes]:
    """The repository's files before anybody works on it."""
    root = TASKS / name / "environment/repository"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _with_network(task: HarborTask, network: Literal["none", "loopback"]) -> HarborTask:
    assert task.sandbox is not None, "a task of Harbor's format has a box of its own"
    return task.model_copy(update={"sandbox": task.sandbox.model_copy(update={"network": network})})
