"""`RolloutBoxes`: the boxes of one rollout. The pool gets all of them back, whatever becomes of the rollout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from envkit.errors import EnvError, InfraError, UsageError
from envkit.events import ExecEnded, SandboxClosed, SandboxStarted
from envkit.sandbox.base import ExecLimits, ExecResult, MiB, Process, Sandbox, SandboxSpec
from envkit.sandbox.pool import CLOSE_SECONDS, Boxes, outlast, paused

if TYPE_CHECKING:
    from envkit.events import Event
    from envkit.rollout import Rollout


class RolloutBoxes:
    """`own` is the box of the episode; `fresh` gives others, each for the length of a block. They share one place."""

    def __init__(self, rollout: Rollout[Any]) -> None:
        if rollout.services.boxes is None:
            raise UsageError(
                "The rollout needs a sandbox, and it has no pool to get one from: say "
                "Services(models, boxes=Boxes()), with Boxes of envkit.sandbox.pool, and close the pool in the end."
            )
        self.rollout, self.grading = rollout, rollout.grading
        self.pool: Boxes = rollout.services.boxes
        self.place = self.pool.place(grading=self.grading)
        self.lent: set[LentBox] = set()
        self._own: LentBox | None = None

    @property
    def own(self) -> LentBox:
        if self._own is None:
            self._own = LentBox(self, self._declared())
        return self._own

    @asynccontextmanager
    async def fresh(self, spec: SandboxSpec | None = None) -> AsyncGenerator[LentBox]:
        """A box that nobody has used, gone after the block."""
        box = LentBox(self, spec or self._declared())
        try:
            await box.start()
            yield box
        finally:
            await box.close()

    async def close(self) -> None:
        """End what is left. It is not cancelled on the way, but waits only a few seconds; failures are events."""
        if self.lent:
            await outlast(asyncio.gather(*(box.close() for box in self.lent)), CLOSE_SECONDS)

    def emit(self, event: Event) -> None:
        self.rollout.emit(event)

    def _declared(self) -> SandboxSpec:
        """What the task says of its box, else the environment."""
        env = self.rollout.env
        spec: SandboxSpec | None = self.rollout.task.sandbox or env.sandbox
        if spec is None:
            raise EnvError(
                f"{type(env).__name__} uses a sandbox and declares none: say Environment(..., sandbox=SandboxSpec()), "
                "with SandboxSpec of envkit.sandbox, so that a run begins only where there is one."
            )
        return spec


class LentBox(Sandbox):
    """A box of the pool, started when it is first used; events tell of its start, its executions and its end."""

    def __init__(self, boxes: RolloutBoxes, spec: SandboxSpec) -> None:
        self.spec = spec
        self._boxes = boxes
        self._starting: asyncio.Task[Sandbox] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._since = 0.0

    async def start(self) -> Sandbox:
        """The pool's box, which the first caller starts. InfraError once it is closed or its lifetime is over."""
        if self._closing is not None:
            raise InfraError("The box is closed.")
        if self._starting is None:
            self._boxes.lent.add(self)
            self._starting = asyncio.get_running_loop().create_task(self._start())
        if not self._starting.done():
            with paused(self._boxes.rollout.deadline):
                await asyncio.shield(self._starting)
        box = self._starting.result()
        if not self._boxes.pool.has(box):
            raise InfraError(f"The box is gone: its lifetime of {self.spec.lifetime:g} s is over.")
        return box

    async def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        box = await self.start()
        return self._told(await box.exec(argv, stdin=stdin, cwd=cwd, env=env, limits=limits))

    async def python(
        self,
        source: str,
        *,
        argv: Sequence[str] = (),
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        box = await self.start()
        return self._told(await box.python(source, argv=argv, stdin=stdin, env=env, limits=limits))

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> Process:
        return await (await self.start()).spawn(argv, cwd=cwd, env=env, limits=limits)

    async def read(self, path: str, max_bytes: int = 16 * MiB) -> bytes:
        return await (await self.start()).read(path, max_bytes)

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await (await self.start()).write(path, data, mode=mode)

    async def upload(self, tar: bytes, path: str = ".") -> None:
        await (await self.start()).upload(tar, path)

    async def download(self, path: str = ".", max_bytes: int = 64 * MiB) -> bytes:
        return await (await self.start()).download(path, max_bytes)

    async def url(self, port: int) -> str:
        return await (await self.start()).url(port)

    async def close(self) -> None:
        """Give it back to the pool. Never raises for a box that cannot be closed: that is an event."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await outlast(self._closing, 2 * CLOSE_SECONDS)

    async def _start(self) -> Sandbox:
        boxes = self._boxes
        begun = time.monotonic()
        box = await boxes.pool.take(self.spec, boxes.place)
        self._since, self.backend = time.monotonic(), box.backend
        boxes.emit(SandboxStarted(boxes.rollout.trace, grading=boxes.grading, seconds=self._since - begun))
        return box

    async def _close(self) -> None:
        boxes, starting = self._boxes, self._starting
        if starting is None:
            return
        starting.cancel()  # which says nothing to one that has started
        await asyncio.wait({starting})
        boxes.lent.discard(self)
        if starting.cancelled() or starting.exception() is not None:
            return
        error: str | None = None
        try:
            await boxes.pool.give(starting.result())
        except InfraError as failure:
            error = str(failure)
        seconds = time.monotonic() - self._since
        boxes.emit(SandboxClosed(boxes.rollout.trace, grading=boxes.grading, seconds=seconds, error=error))

    def _told(self, result: ExecResult) -> ExecResult:
        boxes = self._boxes
        if boxes.rollout.services.listener is not None:
            boxes.emit(ExecEnded(boxes.rollout.trace, boxes.grading, result.wall, result.reason))
        return result
