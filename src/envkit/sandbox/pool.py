"""`Boxes`: the pool that every box of a process comes from, each used once, by one rollout, and then gone.

A rollout takes one place for all the boxes that it has at a time, of the agents' places while its episode goes on and
of the gradings' while it is scored, and never holds one of each: so no rollout waits for a place while another needs
its. Nothing that is cancelled loses a box: what is being started is let arrive, and closed then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from envkit.errors import EnvkitError, InfraError, UsageError
from envkit.sandbox.base import Backend, Sandbox, SandboxSpec

if TYPE_CHECKING:
    from envkit.limits import Deadline

AGENTS = 32
"""Episodes with boxes at a time: an agent's box waits for its model nearly always."""
BOXES_EACH = 4
"""Boxes of one rollout at a time: a judge of assert-style tests needs two, a checker beside them one more."""
START_SECONDS = 120.0
"""For one box to start: a container does in one second, a virtual machine elsewhere may take a minute."""
CLOSE_SECONDS = 5.0
"""What a rollout waits for its boxes to be gone; they go on being closed after it."""
GIVE_UP_SECONDS = 60.0
"""After which a box that does not close is the next sweep's."""
END_SECONDS = 30.0
"""For the whole pool to end."""
STALE = 0.1
"""The share of its lifetime after which a warm box is too old to be handed out."""

T = TypeVar("T")

INTERPRETER = "import platform; print(platform.python_implementation(), platform.python_version(), 6 * 7)"


class Boxes:
    """A pool of boxes around one backend: the first that works here, one by name, or one that is the caller's to close.

    At most `agents` rollouts have boxes during their episodes and `gradings` while they are scored (as many as there
    are cores, so that programs keep their time limits), each at most `BOXES_EACH` of them. `per_second` limits how many
    boxes are started in a second; `warm` is how many are kept ready for the specs that were used last.
    """

    def __init__(
        self,
        backend: Backend | str | None = None,
        *,
        agents: int = AGENTS,
        gradings: int | None = None,
        per_second: float | None = None,
        warm: int = 0,
    ) -> None:
        self._given, self._owned = _backend(backend), not isinstance(backend, Backend)
        self._agents, self._gradings = agents, gradings or max(2, os.cpu_count() or 1)
        self._between = 0.0 if per_second is None else 1 / per_second
        self._most_warm = warm
        self._reset()

    def _reset(self) -> None:
        self._backend: Backend | None = None
        self._preparing: asyncio.Task[Backend] | None = None
        self._places = {False: asyncio.Semaphore(self._agents), True: asyncio.Semaphore(self._gradings)}
        self._next_start = 0.0
        self._live: dict[Sandbox, _Live] = {}
        self._warm: list[_Live] = []
        self._warming = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def ready(self, spec: SandboxSpec | None = None) -> Backend:
        """The backend, which has swept what killed processes left. UsageError where none can be used."""
        if self._backend is not None:
            return self._backend
        if self._preparing is None:
            self._preparing = self._task(self._prepare(spec))
        preparing = self._preparing
        try:
            return await asyncio.shield(preparing)
        except BaseException:
            if preparing.done() and self._preparing is preparing:
                self._preparing = None  # the next one asks again
            raise

    async def about(self, spec: SandboxSpec) -> dict[str, Any]:
        """What a run's record says of its boxes, found out in one: the backend, the spec, the Python in it."""
        backend = await self.ready(spec)
        place = self.place(grading=True)
        box = await self.take(spec, place)
        try:
            result = await box.python(INTERPRETER)
        finally:
            await self.give(box)
        words = result.stdout.decode("utf-8", "replace").strip().rpartition(" ")
        found = words[0][:80] if result.ok and words[2] == "42" else None
        return {"backend": backend.name, "spec": spec.model_dump(mode="json"), "interpreter": found}

    def place(self, *, grading: bool) -> Place:
        """A rollout's share of one of the budgets; free until its first box."""
        return Place(self._places[grading])

    async def take(self, spec: SandboxSpec, place: Place, *, deadline: Deadline | None = None) -> Sandbox:
        """A box that nobody has used, which `give` takes back; `deadline` stands still until it is there."""
        with paused(deadline):
            backend = await self.ready(spec)
        await place.enter(deadline)
        if self._ending:
            place.leave()
            raise InfraError("The pool of sandboxes is being closed: no box is started any more.")
        if (ready := self._take_warm(spec)) is not None:
            ready.place = place
            self._refill(backend, spec)
            return ready.box
        try:
            with paused(deadline):
                await self._pace()
        except BaseException:
            place.leave()
            raise
        starting = self._task(self._start(backend, spec, place))
        try:
            with paused(deadline):
                async with asyncio.timeout(START_SECONDS):
                    live = await asyncio.shield(starting)
        except TimeoutError:
            starting.add_done_callback(self._unwanted)
            raise InfraError(f"The {backend.name} sandbox did not start a box in {START_SECONDS:g} s.") from None
        except BaseException:
            starting.add_done_callback(self._unwanted)
            raise
        self._refill(backend, spec)
        return live.box

    async def give(self, box: Sandbox) -> None:
        """End a box. InfraError where that failed, or takes longer than `CLOSE_SECONDS`: then it goes on by itself."""
        if (live := self._live.get(box)) is None:
            return
        closing = self._close_soon(live)
        await outlast(closing, CLOSE_SECONDS)
        if not closing.done():
            raise InfraError(f"A box was not gone within {CLOSE_SECONDS:g} s.")
        closing.result()

    def has(self, box: Sandbox) -> bool:
        """Whether the box is still its user's: False once its lifetime is over."""
        live = self._live.get(box)
        return live is not None and live.closing is None

    async def close(self) -> None:
        """End every box, whoever has it, and the backend if it was made here. The pool can be used again afterwards."""
        if self._ending:
            return
        self._ending = True
        ending = asyncio.create_task(self._end())
        await outlast(ending, END_SECONDS)
        if ending.done():
            ending.result()

    async def _prepare(self, spec: SandboxSpec | None) -> Backend:
        from envkit.sandbox import find

        if (backend := self._given) is None:
            backend = await find.choose(spec)
        elif isinstance(why := await find.able(backend), str):
            raise UsageError(f"The sandbox backend {backend.name!r} cannot be used here: {why}")
        await find.sweep(backend)
        self._backend = backend
        return backend

    async def _start(self, backend: Backend, spec: SandboxSpec, place: Place | None) -> _Live:
        """Start a box; the place is given back where that fails, and else when the box is closed."""
        try:
            box = await backend.start(spec)
        except BaseException as error:
            if place is not None:
                place.leave()
            if isinstance(error, EnvkitError) or not isinstance(error, Exception):
                raise
            raise InfraError(f"The {backend.name} sandbox could not start a box: {error!r}") from error
        loop = asyncio.get_running_loop()
        live = _Live(box, spec, place, loop.time())
        live.timer = loop.call_later(spec.lifetime, self._close_soon, live)
        self._live[box] = live
        return live

    async def _pace(self) -> None:
        """Wait for the turn of one more start."""
        if self._between:
            now = asyncio.get_running_loop().time()
            turn = max(now, self._next_start)
            self._next_start = turn + self._between
            await asyncio.sleep(turn - now)

    def _take_warm(self, spec: SandboxSpec) -> _Live | None:
        now = asyncio.get_running_loop().time()
        for live in [live for live in self._warm if live.spec == spec]:
            self._warm.remove(live)
            if live.closing is None and now - live.started < STALE * spec.lifetime:
                return live
            self._close_soon(live)
        return None

    def _refill(self, backend: Backend, spec: SandboxSpec) -> None:
        """Have boxes of this spec ready for those who come next, in place of the ones that have waited longest."""
        ready = sum(live.spec == spec for live in self._warm)
        for _ in range(0 if self._ending else self._most_warm - ready - self._warming):
            self._warming += 1
            self._task(self._begin_warm(backend, spec))

    async def _begin_warm(self, backend: Backend, spec: SandboxSpec) -> None:
        try:
            await self._pace()
            live = await self._start(backend, spec, None)
        except EnvkitError:
            return  # whoever needs the next box gets the error
        finally:
            self._warming -= 1
        if self._ending:
            self._close_soon(live)
            return
        self._warm.append(live)
        while len(self._warm) > self._most_warm:
            self._close_soon(self._warm.pop(0))

    def _unwanted(self, starting: asyncio.Task[_Live]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._close_soon(starting.result())

    def _close_soon(self, live: _Live) -> asyncio.Task[None]:
        if live.closing is None:
            live.closing = self._task(self._close(live))
        return live.closing

    async def _close(self, live: _Live) -> None:
        if live.timer is not None:
            live.timer.cancel()
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await live.box.close()
        except Exception as error:
            raise InfraError(f"A box could not be closed: {str(error) or type(error).__name__}") from error
        finally:
            self._live.pop(live.box, None)
            if live.place is not None:
                live.place.leave()

    async def _end(self) -> None:
        try:
            while self._tasks or self._live:
                for live in list(self._live.values()):
                    self._close_soon(live)
                if self._tasks:
                    await asyncio.wait(self._tasks)
            if self._backend is not None and self._owned:
                await self._backend.close()
        finally:
            self._reset()

    def _task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; where nobody does, there is nobody to tell


class Place:
    """One rollout's share of a budget: taken before its first box, given back when its last one is gone."""

    def __init__(self, budget: asyncio.Semaphore) -> None:
        self._budget = budget
        self._own = asyncio.Semaphore(BOXES_EACH)
        self._first = asyncio.Lock()
        self._boxes = 0

    async def enter(self, deadline: Deadline | None = None) -> None:
        """Wait until the rollout may have one more box. Only for itself it waits on its own time."""
        await self._own.acquire()
        try:
            with paused(deadline):
                async with self._first:
                    if self._boxes == 0:
                        await self._budget.acquire()
                    self._boxes += 1
        except BaseException:
            self._own.release()
            raise

    def leave(self) -> None:
        """One of its boxes is gone."""
        self._boxes -= 1
        if self._boxes == 0:
            self._budget.release()
        self._own.release()


@dataclass(eq=False, slots=True)
class _Live:
    """A box that was started and is not gone yet. `closing` is what closes it, once something does."""

    box: Sandbox
    spec: SandboxSpec
    place: Place | None
    started: float
    timer: asyncio.TimerHandle | None = None
    closing: asyncio.Task[None] | None = None


@asynccontextmanager
async def opened(sandbox: Boxes | Backend | str | None, spec: SandboxSpec | None) -> AsyncGenerator[Opened]:
    """The pool that was passed, or one around this backend, which is closed afterwards; tried with the spec, if given.

    UsageError where no backend can be used for it, InfraError where its first box fails.
    """
    boxes = sandbox if isinstance(sandbox, Boxes) else Boxes(sandbox)
    try:
        yield Opened(boxes, None if spec is None else await boxes.about(spec))
    finally:
        if boxes is not sandbox:
            await boxes.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """A pool, and what is recorded of its boxes: None where nothing was said of what they are to be."""

    boxes: Boxes
    about: dict[str, Any] | None


def _backend(given: Backend | str | None) -> Backend | None:
    if not isinstance(given, str):
        return given
    from envkit.sandbox import find

    return find.backend(given)


async def outlast(task: asyncio.Future[Any], seconds: float) -> None:
    """Wait so long for the task, which is not cancelled with its waiter: that comes after."""
    cancelled: asyncio.CancelledError | None = None
    end = asyncio.get_running_loop().time() + seconds
    while not task.done() and (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def paused(deadline: Deadline | None) -> AbstractContextManager[None]:
    return nullcontext() if deadline is None else deadline.paused()
