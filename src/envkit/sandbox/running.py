"""`Running`: a program in a box as its supervisor sees it: capped output, a deadline, and one reason why it ended.

Memory stays bounded whatever the program writes: output beyond the cap ends the program, or waits until it is read.
A backend provides the transport: it calls `received` and `finished`, and says how to stop, to pause and to send.
"""

from __future__ import annotations

import asyncio
import signal
import time
from abc import abstractmethod
from dataclasses import replace

from envkit.errors import InfraError
from envkit.sandbox.base import ExecLimits, ExecResult, KiB, Process, Reason, shortened

_BY_SIGNAL: dict[int | None, Reason] = {signal.SIGXCPU: "timeout", signal.SIGKILL: "killed"}


class Running(Process):
    """`interactive`: stderr joins stdout and what nobody reads holds the program up; else a full stream ends it."""

    def __init__(self, limits: ExecLimits, *, interactive: bool) -> None:
        self.limits, self._interactive = limits, interactive
        self._streams = {1: bytearray(), 2: bytearray()}
        self._waited_for = not interactive
        self._truncated = False
        self._reason: Reason | None = None
        self._news, self._done = asyncio.Event(), asyncio.Event()
        self._result: ExecResult | None = None
        self._failure: Exception | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._started = time.monotonic()
        self._deadline = asyncio.get_running_loop().call_later(limits.wall, self.end, "timeout")

    @abstractmethod
    async def _stop(self) -> None:
        """End the program with everything that it started; `finished` must follow."""

    @abstractmethod
    def _flow(self, on: bool) -> None:
        """Read from the program, or leave what it writes in its pipe."""

    def received(self, stream: int, data: bytes) -> None:
        """It wrote to stdout (1) or stderr (2)."""
        kept = self._streams[1 if self._interactive else stream]
        room = self.limits.output - len(kept)
        if len(data) > room and (self._waited_for or self._stopping is not None):
            self._truncated = True
            kept += data[: max(0, room)]
            self.end("output")
        else:
            kept += data
            if len(data) >= room and self._interactive:
                self._flow(self._waited_for or self._stopping is not None)
        self._news.set()

    def finished(self, code: int | None, by: int | None, *, cpu: float | None = None, peak: int | None = None) -> None:
        """It is gone, by exit code or signal, and will write no more."""
        if self._done.is_set():
            return
        self._deadline.cancel()
        reason = self._reason or _BY_SIGNAL.get(by, "exit")
        wall = time.monotonic() - self._started
        self._result = ExecResult(code, by, reason, b"", b"", self._truncated, wall, cpu, peak)
        self._done.set()
        self._news.set()

    def failed(self, error: Exception) -> None:
        """What became of it cannot be told: whoever waits gets the error."""
        self._failure = error
        self.finished(None, None)

    def end(self, reason: Reason) -> None:
        """Have it ended, for the first reason that was given."""
        if self._done.is_set() or self._stopping is not None:
            return
        self._reason = self._reason or reason
        self._stopping = asyncio.get_running_loop().create_task(self._stop())

    @property
    def alive(self) -> bool:
        return not self._done.is_set()

    async def read(self, max_bytes: int = 64 * KiB, *, within: float | None = None) -> bytes:
        kept = self._streams[1]
        async with asyncio.timeout(within):
            while not kept and self.alive:
                self._news.clear()
                await self._news.wait()
        data = bytes(kept[:max_bytes])
        del kept[:max_bytes]
        if self.alive and len(kept) < self.limits.output:
            self._flow(True)
        return data

    async def wait(self, *, within: float | None = None) -> ExecResult:
        self._waited_for = True
        if self.alive:
            self._flow(True)
        try:
            async with asyncio.timeout(within):
                await self._done.wait()
        finally:
            self._waited_for = not self._interactive
        if self._stopping is not None:
            await self._stopping
        return self._whole()

    async def kill(self) -> None:
        self.end("killed")
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
        await self._done.wait()

    def _whole(self) -> ExecResult:
        if self._failure is not None:
            raise InfraError(f"The sandbox lost a program: {self._failure}") from self._failure
        assert self._result is not None, "only asked for once it is done"
        whole = replace(self._result, stdout=bytes(self._streams[1]), stderr=bytes(self._streams[2]))
        return shortened(whole, self.limits.output)
