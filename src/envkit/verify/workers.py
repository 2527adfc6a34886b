"""`Workers`: processes for CPU-bound verification that can be killed, so that no answer hangs or crashes the host.

    host, one thread ──> template: has `preload` imported, no threads, and forks
            └──────────> workers: forks of the template, at most one a core, each with one job at a time

A job names a function, `"module:function"`, and its arguments and its result are JSON: the host never unpickles what a
worker sends. A job's deadline counts from the start of its work in the worker. A worker that is late, dead or talks
nonsense is killed and replaced, and costs its own job alone. No process outlives the host: workers and template end at
the end of their sockets, and on Linux with the thread that started them.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from envkit.errors import EnvError, InfraError
from envkit.verify.template import FORKS, Fresh, Settings, Template
from envkit.verify.worker import FRAME, NOT_STARTED, OUT_OF_MEMORY

MEMORY_BYTES = 1 << 30
"""Address space of a worker: five times what sympy needs, and small beside a host."""

JOBS_PER_WORKER = 200
"""Then a fresh fork, so that caches, leaks and changed globals do not pile up; 15 ms spread over 200 jobs."""

START_SECONDS = 60.0
"""For what is not the work: starting the template, forking, importing the job's module; or ending a worker."""

ANSWER_BYTES = 8 << 20
"""The longest answer that is read; a verdict has a hundred bytes."""


class WorkerTimeout(InfraError):
    """The work ran past its deadline, counted from its start, and its worker was killed."""

    retryable = False


class WorkerDied(InfraError):
    """The worker ended, or said what is no answer, before it had answered: out of memory, a crash, an exit.

    It is the job's doing, and would happen again. Where the pool itself fails, there is an InfraError to retry.
    """

    retryable = False


class WorkRaised(EnvError):
    """The function raised, or there is no such function; a note has the worker's traceback."""


class Workers:
    """A pool of killable processes. It starts with its first job, from any thread or event loop, also after a fork."""

    def __init__(
        self, preload: Sequence[str] = (), *, count: int | None = None, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        """`preload` names the modules that the template imports once; `count` is the number of cores if not given."""
        self._settings = Settings(tuple(preload), memory_bytes)
        self._count = max(1, count or os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._engine: _Engine | None = None

    def run(self, function: str, *args: object, timeout: float = 2.0) -> Any:
        """The function's result; blocks the thread. Where there is none: WorkerTimeout, WorkerDied, WorkRaised, or the
        pool's own InfraError."""
        future = self._submit(function, args, timeout)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C while waiting: no one will read the answer
            raise

    async def arun(self, function: str, *args: object, timeout: float = 2.0) -> Any:  # noqa: ASYNC109 - of the work alone
        """As `run`, awaited. Cancelling kills the job's worker."""
        import asyncio  # 50 ms that a program without an event loop need not pay

        return await asyncio.wrap_future(self._submit(function, args, timeout))

    def close(self) -> None:
        """End all processes; unfinished jobs get an InfraError. A later job starts the pool anew."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()
            engine.thread.join()

    def _submit(self, function: str, args: tuple[object, ...], timeout: float) -> Future[Any]:
        request = json.dumps({"function": function, "args": args, "seconds": timeout}).encode()
        job = _Job(function, FRAME.pack(len(request)) + request, timeout)
        with self._lock:
            if self._engine is None or not self._engine.submit(job):
                _register_hooks()
                self._engine = _Engine(self._settings, self._count)
                _started.add(self)
                weakref.finalize(self, self._engine.stop).atexit = False
                self._engine.submit(job)
        return job.future

    def _forget(self) -> None:
        """After a fork, in the child: the processes are the parent's."""
        self._lock = threading.Lock()  # the old one may be held by a thread that is not here
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.drop()


_started: weakref.WeakSet[Workers] = weakref.WeakSet()


@functools.cache
def _register_hooks() -> None:
    atexit.register(lambda: [pool.close() for pool in list(_started)])
    if FORKS:
        os.register_at_fork(after_in_child=lambda: [pool._forget() for pool in list(_started)])  # pyright: ignore[reportPrivateUsage]


# In the host: one thread that owns every socket.


@dataclass(eq=False)
class _Job:
    function: str
    request: bytes
    timeout: float
    begun_again: bool = False
    future: Future[Any] = field(default_factory=lambda: Future[Any]())

    def answer(self, value: object) -> None:
        with suppress(InvalidStateError):  # cancelled meanwhile
            self.future.set_result(value)

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(eq=False)
class _Worker:
    number: int
    socket: socket.socket
    job: _Job | None = None
    due: float = float("inf")
    """When what it is at, starting, working or ending, is overdue."""
    working: bool = False
    ending: bool = False
    jobs_left: int = JOBS_PER_WORKER
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)


class _Engine:
    """The thread that hands out jobs, watches deadlines and replaces workers; only it touches sockets."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings, self._count = settings, count
        self._lock = threading.Lock()
        self._ended = False
        self._posted: deque[_Job] = deque()
        self._cancelled: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._workers: dict[int, _Worker] = {}
        self._numbers = 0
        self._template: Template | Fresh | None = None
        self._selector = selectors.SelectSelector() if sys.platform == "win32" else selectors.PollSelector()
        self._alarm, self._woken = socket.socketpair()
        self._alarm.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake)
        # The template is started by this thread and not by the caller's, because Linux ends it with its thread.
        self.thread = threading.Thread(target=self._live, name="envkit-workers", daemon=True)
        self.thread.start()

    def submit(self, job: _Job) -> bool:
        """False where this engine has come to its end."""
        with self._lock:
            if self._ended:
                return False
            self._posted.append(job)
        job.future.add_done_callback(lambda future: self._withdraw(job) if future.cancelled() else None)
        self._ring()
        return True

    def stop(self) -> None:
        self._ended = True  # without the lock: a finalizer may run in a thread that holds it
        self._ring()

    def drop(self) -> None:
        """Let go of the sockets, in a forked child whose parent goes on using them."""
        self._ended = True
        if self._template is not None:
            self._template.drop()
        for each in [self._alarm, self._woken, *(w.socket for w in self._workers.values())]:
            each.close()

    def _withdraw(self, job: _Job) -> None:
        self._cancelled.append(job)
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):  # full: it is awake already; closed: it has ended
            self._alarm.send(b"\0")

    def _wake(self, _: int) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)

    def _live(self) -> None:
        error = InfraError("The pool of workers was closed.")
        try:
            while not self._ended:
                for key, events in self._selector.select(self._pause()):
                    key.data(events)
                self._turn()
        except Exception as cause:  # noqa: BLE001 - whatever it is, no caller may wait for ever
            error = InfraError(f"The pool of workers failed: {cause!r}")
            error.__cause__ = cause
        with self._lock:
            self._ended = True
        self._waiting.extend(self._posted)
        self._lose_template(error)
        for job in self._waiting:
            job.fail(error)
        for each in (self._selector, self._alarm, self._woken):
            each.close()

    def _turn(self) -> None:
        """What is to be done after each event: reports of ends, new and cancelled jobs, deadlines, free places."""
        self._hear_template()
        while self._posted:
            self._waiting.append(self._posted.popleft())
        while self._cancelled:
            job = self._cancelled.popleft()
            for worker in self._workers.values():
                if worker.job is job:
                    self._end(worker)
        now = time.monotonic()
        for worker in [w for w in self._workers.values() if w.due <= now]:
            self._overdue(worker)
        self._assign()

    def _pause(self) -> float | None:
        due = min((worker.due for worker in self._workers.values()), default=float("inf"))
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    def _assign(self) -> None:
        while self._waiting:
            if self._waiting[0].future.done():
                self._waiting.popleft()
                continue
            worker = next((w for w in self._workers.values() if w.job is None and not w.ending), None)
            if worker is None:
                if len(self._workers) >= self._count:
                    return
                worker = self._begin()
            worker.job = job = self._waiting.popleft()
            worker.due = time.monotonic() + START_SECONDS
            worker.outbox += job.request
            self._write(worker)

    def _begin(self) -> _Worker:
        if self._template is None:
            self._template = (Template if FORKS else Fresh)(self._settings)
            if self._template.socket is not None:
                self._selector.register(self._template.socket, selectors.EVENT_READ, self._heed)
        self._numbers += 1
        worker = _Worker(self._numbers, self._template.begin(self._numbers))
        worker.socket.setblocking(False)
        self._workers[worker.number] = worker
        self._selector.register(worker.socket, selectors.EVENT_READ, functools.partial(self._ready, worker))
        return worker

    def _heed(self, _: int) -> None:
        """The template says something, which each turn hears anyway."""

    def _ready(self, worker: _Worker, events: int) -> None:
        if events & selectors.EVENT_WRITE and not worker.ending:
            self._write(worker)
        if events & selectors.EVENT_READ and not worker.ending:
            self._read(worker)

    def _write(self, worker: _Worker) -> None:
        with suppress(OSError):  # full, or the other end is gone, which reading will tell
            del worker.outbox[: worker.socket.send(worker.outbox)]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.outbox else 0)
        self._selector.modify(worker.socket, wanted, functools.partial(self._ready, worker))

    def _read(self, worker: _Worker) -> None:
        try:
            received = worker.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        worker.inbox += received
        sound = bool(received)
        while sound and len(worker.inbox) >= FRAME.size:
            (length,) = FRAME.unpack_from(worker.inbox)
            sound = length <= ANSWER_BYTES
            if len(worker.inbox) < FRAME.size + length:
                break
            frame = bytes(worker.inbox[FRAME.size : FRAME.size + length])
            del worker.inbox[: FRAME.size + length]
            sound = self._hear(worker, frame)
        if not sound:
            self._end(worker)

    def _hear(self, worker: _Worker, frame: bytes) -> bool:
        """Take a message from a worker; False where it is none. It may say anything, and is trusted with nothing."""
        try:
            message: Any = json.loads(frame)
        except (ValueError, RecursionError):
            return False
        job = worker.job
        match message:
            case {"started": True} if job is not None and not worker.working:
                worker.working = True
                worker.due = time.monotonic() + job.timeout
            case {"value": value} if job is not None and worker.working:
                self._free(worker)
                job.answer(value)
            case {"raised": str(raised), "trace": str(trace)} if job is not None:
                error = WorkRaised(f"{job.function} raised {raised}")
                error.add_note(trace)
                self._free(worker)
                job.fail(error)
            case _:
                return False
        return True

    def _free(self, worker: _Worker) -> None:
        worker.job, worker.working, worker.due = None, False, float("inf")
        worker.jobs_left -= 1
        if not worker.jobs_left:
            self._end(worker)

    def _overdue(self, worker: _Worker) -> None:
        if worker.ending:  # the template, which should have killed it, does not respond
            self._lose_template(InfraError("The template of the workers does not respond."))
            return
        if worker.job is not None and worker.working:
            worker.job.fail(WorkerTimeout(f"{worker.job.function} ran past its {worker.job.timeout:g} s."))
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        """Have it killed. Its place is free when that is reported, and a job without an answer learns how it ended."""
        if worker.ending or self._template is None:
            return
        self._selector.unregister(worker.socket)
        worker.socket.close()
        worker.ending, worker.due = True, time.monotonic() + START_SECONDS
        self._template.end(worker.number)

    def _hear_template(self) -> None:
        if self._template is None:
            return
        ended, gone = self._template.hear()
        for number, status in ended:
            worker = self._workers.pop(number, None)
            job = None if worker is None else worker.job
            if worker is None or job is None:
                continue
            if worker.working or job.begun_again:
                job.fail(_ended(job, status))
            else:  # it was dead before it could begin: that is not this job's doing
                job.begun_again = True
                self._waiting.appendleft(job)
        if gone is not None:
            ready, error = self._template.ready, InfraError(f"The template of the workers ended. {gone}".strip())
            self._lose_template(error)
            if not ready:  # another try would end the same way
                while self._waiting:
                    self._waiting.popleft().fail(error)

    def _lose_template(self, error: InfraError) -> None:
        """End the template, and with it all workers; the next job starts another."""
        template, self._template = self._template, None
        if template is None:
            return
        if template.socket is not None:
            self._selector.unregister(template.socket)
        for worker in self._workers.values():
            if not worker.ending:
                self._selector.unregister(worker.socket)
                worker.socket.close()
            if worker.job is not None:
                worker.job.fail(error)
        self._workers.clear()
        template.close()


def _ended(job: _Job, status: int) -> WorkerTimeout | WorkerDied:
    """What a worker's end by itself says of its job."""
    if FORKS and status == -signal.SIGXCPU:  # the second guard was there first: the host was held up
        return WorkerTimeout(f"{job.function} ran past its {job.timeout:g} s.")
    return WorkerDied(f"The worker of {job.function} died: {_how(status)}.")


def _how(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return {OUT_OF_MEMORY: "out of memory", NOT_STARTED: "it could not be started"}.get(status, f"exit status {status}")
