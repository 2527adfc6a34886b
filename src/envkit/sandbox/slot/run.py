"""One program that runs in a slot, seen from the host: its pipes, its deadlines, and how it ended.

Whatever it writes, at most its output cap of each stream is ever held, and whatever it does, its end is known.
"""

from __future__ import annotations

import asyncio
import fcntl
import marshal
import math
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from envkit.sandbox.base import ExecLimits, ExecResult, Reason
from envkit.sandbox.slot.cgroups import Cgroups, Lane
from envkit.sandbox.slot.slot import Ended, Rlimits, Slot, SlotLost

READ_BYTES = 1 << 16
"""What a pipe holds."""

OPEN_FILES = 4096
CORE_BYTES = 1
"""Too little for any core dump, and what the kernel takes for "none at all" also where a program of the host's is to
get them: such a program, which is root, would be started by each crash in a box if the limit were 0."""
LOCKED_MEMORY = 64 << 10
NAMESPACE_PROCESSES = 8
"""init, and wardens: the slot's own processes, which the kernel counts where it counts by uid."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed(name: str, content: bytes) -> int:
    """A file in memory that nobody can change any more, read from its start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@dataclass(frozen=True)
class Order:
    """What is to run: the request that the execution's own process reads, and the bytes after it."""

    request: dict[str, Any]
    limits: ExecLimits
    payload: bytes = b""
    confined: bool = True
    """Whether it runs in a cgroup; our own file transfers need none."""


def open_pipe() -> tuple[int, int]:
    """A pipe that a program may also open by name, as /dev/stdin: it is another user than the one who made it."""
    reading, writing = os.pipe()
    os.fchmod(reading, 0o666)
    return reading, writing


class Stream:
    """One of a program's outputs, read as it comes, up to a cap."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cap: int, too_much: Callable[[], None]) -> None:
        self._loop, self._cap, self._too_much = loop, cap, too_much
        self._fd, self.theirs = open_pipe()
        os.set_blocking(self._fd, False)
        self._kept = bytearray()
        self.truncated = False
        loop.add_reader(self._fd, self._read)

    @property
    def bytes(self) -> bytes:
        return bytes(self._kept)

    def drain(self) -> None:
        """What the pipe still holds. Not to its end of file, which somebody may hold open, but to its last byte."""
        while self._fd >= 0 and self._read():
            pass
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, min(READ_BYTES, self._cap - len(self._kept) + 1))
        except BlockingIOError:
            return False
        self._kept += data
        if len(self._kept) > self._cap:
            del self._kept[self._cap :]
            self.truncated = True
            self._too_much()
        if not data or self.truncated:
            self.close()
            return False
        return True


class Feed:
    """A program's input, given to it as it reads: by a pipe, because a file is nothing that programs could poll."""

    def __init__(self, loop: asyncio.AbstractEventLoop, content: bytes) -> None:
        self._loop, self._left = loop, memoryview(content)
        self.theirs, self._fd = open_pipe()
        os.set_blocking(self._fd, False)
        self._write()
        if self._fd >= 0:  # there is more than a pipe holds
            loop.add_writer(self._fd, self._write)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        try:
            while self._left:
                self._left = self._left[os.write(self._fd, self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it reads no more
            pass
        self.close()


class SlotRun:
    """A program from its start on. `ended` is the future of its result, or of a SlotLost or InfraError."""

    def __init__(self, slot: Slot, cgroups: Cgroups | None, order: Order) -> None:
        self._loop = asyncio.get_running_loop()
        self._slot, self._limits = slot, order.limits
        self._reason: Reason | None = None
        self._streams: list[Stream] = []
        self._feed: Feed | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._began = time.monotonic()
        self._lane: Lane | None = None
        self._cpu_before = 0.0
        self.ended: asyncio.Future[ExecResult] = self._loop.create_future()
        self.ended.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._order = order
        self._cgroups = cgroups if order.confined else None

    def feed(self, stdin: bytes) -> int:
        """A pipe with this input; the end that the program gets."""
        self._feed = Feed(self._loop, stdin)
        return self._feed.theirs

    def capture(self) -> int:
        """A pipe that is read into the result; the end that the program gets. stdout first, stderr second."""
        stream = Stream(self._loop, self._limits.output, lambda: self.kill("output"))
        self._streams.append(stream)
        return stream.theirs

    def start(self, stdin: int, stdout: int, stderr: int) -> None:
        """Hand it to the slot. The descriptors are taken, and closed here."""
        mine = {stdin, stdout, stderr}
        try:
            request = sealed("request", marshal.dumps((self._order.request, self._order.payload)))
            mine.add(request)
            joins: list[int] = []
            if self._cgroups is not None:
                limits = self._limits
                self._lane = self._slot.lane(self._cgroups, memory=limits.memory, pids=limits.pids)
                self._cpu_before = self._lane.cpu() or 0.0
                joins = self._lane.join()
                mine.update(joins)
            self._began = time.monotonic()
            fds = [request, stdin, stdout, stderr, *joins]
            self._number, ended = self._slot.run(fds, wall=self._limits.wall, rlimits=self._rlimits())
        except BaseException:
            self._release()
            self.ended.cancel()
            raise
        finally:
            for fd in mine:
                os.close(fd)
        ended.add_done_callback(self._end)
        self._timers["wall"] = self._loop.call_later(self._limits.wall, self.kill, "timeout")
        self._watch_cpu()

    def kill(self, reason: Reason = "killed") -> None:
        """End it and everything that it started; the first reason given is the one that is told."""
        if self._reason is None and not self.ended.done():
            self._reason = reason
            self._slot.kill(self._number)

    def _rlimits(self) -> Rlimits:
        limits = self._limits
        chosen = [
            (resource.RLIMIT_CORE, CORE_BYTES),
            (resource.RLIMIT_RTPRIO, 0),
            (resource.RLIMIT_NICE, 0),
            (resource.RLIMIT_NOFILE, OPEN_FILES),
            (resource.RLIMIT_MEMLOCK, LOCKED_MEMORY),
            (resource.RLIMIT_FSIZE, limits.disk),
            (resource.RLIMIT_CPU, math.ceil(limits.cpu)),
        ]
        if self._cgroups is None:  # of each process, not of all: the most that there is without cgroups
            chosen += [
                (resource.RLIMIT_AS, limits.memory),
                (resource.RLIMIT_NPROC, limits.pids + NAMESPACE_PROCESSES),
            ]
        return chosen

    def _watch_cpu(self) -> None:
        """Look again when it could have used up its processor time: with all cores, since the last look."""
        used = None if self._lane is None else self._lane.cpu()
        if used is None:
            return  # then RLIMIT_CPU, of each process
        left = self._limits.cpu - (used - self._cpu_before)
        if left <= 0:
            self.kill("timeout")
            return
        self._timers["cpu"] = self._loop.call_later(max(0.01, left / (os.cpu_count() or 1)), self._watch_cpu)

    def _end(self, future: asyncio.Future[Ended]) -> None:
        """Init has said that all of it is gone, or the slot itself is."""
        wall = time.monotonic() - self._began
        for stream in self._streams:
            stream.drain()
        error = future.exception()
        if error is None or (isinstance(error, SlotLost) and self._reason is not None):
            ended = future.result() if error is None else Ended(None, False, 0.0, None)
            result = self._result(ended, wall)
            self._release()
            if not self.ended.done():
                self.ended.set_result(result)
        else:
            self._release()
            if not self.ended.done():
                self.ended.set_exception(error)

    def _result(self, ended: Ended, wall: float) -> ExecResult:
        status = signal.SIGKILL if ended.status is None else ended.status
        code = os.waitstatus_to_exitcode(status)
        peak, out_of_memory = ended.rss, False
        cpu = None if ended.status is None else ended.cpu  # the kernel does not count those that it killed for us
        if self._lane is not None:
            with suppress(OSError):  # the slot is gone, and its cgroups with it
                peak = self._lane.peak_memory() or peak
                out_of_memory = self._lane.out_of_memory()
                cpu = max(0.0, total - self._cpu_before) if (total := self._lane.cpu()) is not None else cpu
        stdout, stderr = [*(stream.bytes for stream in self._streams), b"", b""][:2]
        return ExecResult(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            reason=self._why(ended, code, cpu or 0.0, out_of_memory=out_of_memory),
            stdout=stdout,
            stderr=stderr,
            truncated=any(stream.truncated for stream in self._streams),
            wall=wall,
            cpu=cpu,
            peak_memory=peak,
        )

    def _why(self, ended: Ended, code: int, cpu: float, *, out_of_memory: bool) -> Reason:
        if any(stream.truncated for stream in self._streams):
            return "output"  # perhaps of a program that had ended before its output was read
        if ended.status is not None:
            if out_of_memory and code != 0:
                return "memory"
            if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= self._limits.cpu):
                return "timeout"
            return "killed" if code == -signal.SIGKILL else "exit"
        if ended.late:
            return "timeout"
        return self._reason or ("memory" if out_of_memory else "killed")

    def _release(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for each in (self._feed, *self._streams):
            if each is not None:
                each.close()
        if self._lane is not None:
            self._slot.free(self._lane)
            self._lane = None
