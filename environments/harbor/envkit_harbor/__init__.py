"""Tasks in Harbor's format: an agent with a shell in a box, judged there by the task's own verifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import orjson

from envkit import Environment, Limits, Message, Rollout, Score, weighted
from envkit.adapters.harbor import HarborTask, Unsupported, harbor_tasks, install, verify
from envkit.adapters.harbor_protocol import solving
from envkit.adapters.task_box import WORKDIR
from envkit.adapters.task_images import TaskImages
from envkit.dataset import Dataset
from envkit.errors import UsageError
from envkit.rewards import Weighted
from envkit.sandbox import SandboxSpec
from envkit.sandbox.base import Network
from envkit.sandbox.pool import paused
from envkit.sandbox.tools import edit, read_file, shell
from envkit.types import ToolCall

TASKS = Path(__file__).with_name("tasks")
SYSTEM = (
    "You work in a Linux box, with tools to run commands in it and to read and edit its files. "
    "Do what the user asks for there; nobody answers questions. When it is done, say so without calling a tool."
)
SPARE = 300.0
"""Seconds beside a task's own time limits, for copying its files."""
SHOWN = 500
"""Characters of the verifier's output in a score's reason."""


def environment(
    path: str | None = None,
    network: Literal["task", "none", "loopback", "open"] = "task",
    build: Literal["needed", "always"] = "needed",
    unsupported: Literal["refuse", "skip"] = "refuse",
    reward: str | None = None,
    metrics: str = "",
    timeout: float = 600.0,
) -> Environment[HarborTask]:
    """`path` is a task's folder or a folder of tasks; without one, the tasks that ship with this package.

    `network` replaces what the tasks ask for. `build` "always" builds an image of every Dockerfile, also where a plain
    box would do. `reward` names the reward that counts where a verifier gives several and none is called "reward";
    `metrics`, with commas between them, those that are recorded beside it. `timeout` is the seconds of one command.
    """
    skipped: dict[str, str] = {}

    def skip(name: str, error: Unsupported) -> None:
        skipped[name] = str(error)

    found = harbor_tasks(path or TASKS, build=build, skipped=skip if unsupported == "skip" else None)
    tasks = [task if network == "task" else _with_network(task, network) for task in found]
    if not tasks:
        raise UsageError(f"None of the {len(skipped)} tasks is supported. {next(iter(skipped.values()), '')}")
    dataset = Dataset(tasks, about={**found.about, "network": network, **({"skipped": skipped} if skipped else {})})
    return HarborEnv(dataset, reward=reward, metrics=[name for name in metrics.split(",") if name], timeout=timeout)


class HarborEnv(Environment[HarborTask]):
    """The agent works in the task's box until it answers without a call, or its time is over; then the task's verifier
    runs in the same box."""

    task_type = HarborTask

    def __init__(
        self, tasks: Dataset[HarborTask], *, reward: str | None, metrics: Sequence[str], timeout: float
    ) -> None:
        agents = [task.agent_timeout for task in tasks if task.agent_timeout is not None]
        limits = Limits(
            run=max([Limits().run or 0.0, *agents]) + SPARE,
            finish=max(task.verifier_timeout for task in tasks) + SPARE,
            tool=timeout + SPARE,
        )
        super().__init__(
            tasks,
            rewards=[self.reward],
            metrics=[_recorded(name) for name in metrics],
            system_prompt=SYSTEM,
            limits=limits,
            sandbox=_most_demanding(tasks),
        )
        self._counts, self._timeout = reward, timeout

    async def startup(self) -> None:
        self.images = TaskImages()

    async def close(self) -> None:
        await self.images.close()

    async def run(self, rollout: Rollout[HarborTask]) -> None:
        task, box = rollout.task, rollout.sandbox
        rollout.at_end(lambda: self.grade(rollout))
        if task.builds:
            with paused(rollout.deadline):
                await self.images.ready(task)
        await install(box, task)
        if task.agent_timeout is not None and rollout.deadline is not None:
            rollout.deadline.within(task.agent_timeout)
        await rollout.chat.run_tools([shell(box, timeout=self._timeout), read_file(box), edit(box)])

    async def grade(self, rollout: Rollout[HarborTask]) -> None:
        """Have the verifier's word in `info`; nothing where the episode has failed already."""
        if rollout.trace.outcome == "failed":
            return
        graded = await verify(rollout.sandbox, rollout.task)
        reward = self._choose(rollout.task, graded.rewards)
        rollout.info.update(reward=reward, rewards=graded.rewards, output=graded.output)

    def reward(self, rollout: Rollout[Any]) -> Score:
        """What the task's verifier gave."""
        return Score(value=rollout.info["reward"], reason=rollout.info["output"].strip()[-SHOWN:] or None)

    def oracle(self, task: HarborTask, messages: Sequence[Message]) -> str | Message:
        """The task's own solution, put into the box and run by calls of the shell."""
        commands = solving(task)
        turn = sum(message.role == "assistant" for message in messages)
        if turn >= len(commands):
            return "Done."
        arguments = orjson.dumps({"command": commands[turn]}).decode()
        return Message.assistant("", (ToolCall(id=f"call_{turn}", name="shell", arguments=arguments),))

    def _choose(self, task: HarborTask, rewards: dict[str, float]) -> float:
        """The reward that counts: the one that was asked for, else the one called "reward", else the only one."""
        name = self._counts or ("reward" if "reward" in rewards or len(rewards) > 1 else next(iter(rewards)))
        if name not in rewards:
            given = ", ".join(rewards)[:200]
            raise UsageError(f"{task.id}: its verifier gives {given}, and no {name!r}: choose with -a reward=NAME.")
        return rewards[name]


def _recorded(name: str) -> Weighted:
    def value(rollout: Rollout[Any]) -> float | None:
        return rollout.info["rewards"].get(name)

    return weighted(value, 0.0, name=name)


def _with_network(task: HarborTask, network: Literal["none", "loopback", "open"]) -> HarborTask:
    assert task.sandbox is not None, "a task of this format has a box of its own"
    return task.model_copy(update={"sandbox": task.sandbox.model_copy(update={"network": network})})


def _most_demanding(tasks: Dataset[HarborTask]) -> SandboxSpec:
    """What a backend must be able to give, so that a run begins only where its tasks can run; of any image, since those
    of tasks are made later."""
    specs = [task.sandbox for task in tasks if task.sandbox is not None]
    network: Network = max((spec.network for spec in specs), key=lambda network: network not in ("none", "loopback"))
    return SandboxSpec(workdir=WORKDIR, root=any(spec.root for spec in specs), network=network)
