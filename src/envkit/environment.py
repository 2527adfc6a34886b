"""`Environment`: tasks, rewards, and the one coroutine that says how an episode goes."""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from envkit.dataset import Dataset, TaskT
from envkit.errors import EnvError, UsageError
from envkit.limits import Limits
from envkit.rewards import GroupReward, Reward, Weighted, named
from envkit.rollout import Rollout
from envkit.task import Task
from envkit.types import Message

if TYPE_CHECKING:
    from envkit.sandbox.base import SandboxSpec


class Environment(ABC, Generic[TaskT]):
    """Tasks, rewards, and `run`, which is the episode in straight-line Python.

        class Guess(Environment[Task]):
            async def run(self, rollout: Rollout[Task]) -> None:
                hint = "Guess a number from 0 to 99."
                while hint != "right":
                    guess = int((await rollout.chat.generate(hint)).text)
                    hint = "right" if guess == rollout.task.answer else "wrong"
                rollout.info["won"] = True

        def won(rollout: Rollout[Task]) -> float:
            return float(rollout.info.get("won", False))

        env = Guess([Task(id="1", answer=42)], rewards=[won])

    State is local variables; tools are plain functions, often closures made inside `run`; a user simulator or an
    opponent is one more `rollout.open(...)`. Exceptions need no care: what the environment raises makes the rollout
    *failed* with its traceback, a limit makes it *truncated* and still scored.

    `rewards` are functions of the finished rollout (see `envkit.rewards`), summed by weight; `metrics` are recorded
    and count for nothing; `group_rewards` see all attempts at one task. `system_prompt` opens the policy's chat,
    `sampling` is what the environment asks of the policy's endpoint. `sandbox` says what its boxes are made of: one
    that uses `rollout.sandbox` or `rollout.fresh_sandbox()` declares it, so that a run begins only where there are any.

    A subclass may say which `task_type` it reads, which further model `roles` it needs, what the right answer to a
    task is (`oracle`), how it may be cheated (`hacks`), what the other roles say without a model (`stand_in`), and
    what is to be made once a process (`startup`, `close`).
    """

    task_type: ClassVar[type[Task]] = Task
    roles: Sequence[str] = ()
    name: str = ""

    def __init__(
        self,
        tasks: Dataset[TaskT] | Callable[[], Iterable[TaskT]] | Iterable[TaskT],
        rewards: Iterable[Reward | Weighted] = (),
        *,
        metrics: Iterable[Reward | Weighted] = (),
        group_rewards: Iterable[GroupReward | Weighted] = (),
        system_prompt: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        sandbox: SandboxSpec | None = None,
    ) -> None:
        self.tasks: Dataset[TaskT] = tasks if isinstance(tasks, Dataset) else Dataset(tasks)
        self.rewards = named(rewards)
        self.metrics = named(metrics, weight=0.0)
        self.group_rewards = named(group_rewards)
        named([*self.rewards, *self.metrics, *self.group_rewards])  # they share one name space
        self.system_prompt = system_prompt
        self.sampling: Mapping[str, Any] = sampling or {}
        self.limits = limits or Limits()
        self.sandbox = sandbox
        self.is_ready = False
        """Whether `startup` has run."""
        self._starting: asyncio.Task[None] | None = None

    @property
    def prompt_id(self) -> str | None:
        """The name of the system prompt in records: the first 12 hex digits of its SHA-256."""
        return None if self.system_prompt is None else hashlib.sha256(self.system_prompt.encode()).hexdigest()[:12]

    @abstractmethod
    async def run(self, rollout: Rollout[TaskT]) -> None:
        """One episode, from its first message to its end."""

    def oracle(self, task: TaskT, messages: Sequence[Message]) -> str | Message:
        """The right next reply: what `--endpoint oracle` answers, and what `envkit check` scores."""
        raise UsageError(f"{type(self).__name__} has no oracle: it does not override Environment.oracle")

    def hacks(self, task: TaskT, reply: str) -> Mapping[str, str]:
        """Replies that try to be paid without the answer, by name, made of the oracle's reply: `envkit check` demands
        that none is. It tries a program in a fenced block in such ways of its own (`envkit.packages.hacks`)."""
        return {}

    def stand_in(self, role: str, task: TaskT, messages: Sequence[Message]) -> str | Message:
        """What a role beside the policy says where no model is at hand: `--role judge=oracle`, and `envkit check`."""
        raise UsageError(
            f"{type(self).__name__} has nobody to stand in for the role {role!r}: bind a model to it, "
            "or override Environment.stand_in."
        )

    async def startup(self) -> None:
        """Make what all rollouts of this process share; called once before the first."""

    async def close(self) -> None:
        """Free what `startup` made; called once after the last rollout."""

    async def ready(self) -> None:
        """Wait until `startup` has run; the first caller begins it, later ones get the same result or exception."""
        if self._starting is None or self._starting.cancelled():
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        try:
            await self.startup()
        except SystemExit as error:  # which would end the event loop, out of a task of its own
            raise EnvError(f"SystemExit: {error}") from error
        self.is_ready = True

    async def end(self) -> None:
        """`close`, if `startup` has run; afterwards the environment may be used again."""
        if self.is_ready:
            await self.close()
        self.is_ready, self._starting = False, None


class SingleTurnEnv(Environment[TaskT]):
    """The task's prompt, one reply. The oracle says the task's answer."""

    async def run(self, rollout: Rollout[TaskT]) -> None:
        await rollout.chat.generate()

    def oracle(self, task: TaskT, messages: Sequence[Message]) -> str | Message:
        return str(task.answer)
