"""A box in a slot: files of its own until it is closed, and programs of which none outlives its execution."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from envkit.errors import InfraError
from envkit.sandbox.base import (
    ExecLimits,
    ExecResult,
    GiB,
    KiB,
    MiB,
    Process,
    Sandbox,
    SandboxSpec,
    relative_to_workdir,
)
from envkit.sandbox.slot.cgroups import Cgroups
from envkit.sandbox.slot.run import READ_BYTES, Order, SlotRun, open_pipe
from envkit.sandbox.slot.slot import Slot, SlotLost
from envkit.sandbox.ways import Ways

TRANSFER_SECONDS = 120.0
"""For reading or writing files of the box, most of them in a few milliseconds."""

COMPLAINT_BYTES = 4 * KiB


class SlotBox(Sandbox):
    """A `Sandbox` that leases a slot; `give_back` takes the slot when the box is closed."""

    def __init__(
        self,
        spec: SandboxSpec,
        slot: Slot,
        *,
        path: str,
        cgroups: Cgroups | None,
        give_back: Callable[[Slot], Awaitable[None]],
    ) -> None:
        self.spec, self.backend = spec, "slot"
        self._slot, self._cgroups, self._give_back = slot, cgroups, give_back
        self._environment = {"PATH": path, "HOME": spec.workdir, "LANG": "C.UTF-8", **_plain_values(spec.env)}
        self._ways = Ways(self)
        self._running: set[SlotRun] = set()
        self._spawned: list[SlotProcess] = []
        self._closing: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._lifetime = loop.call_later(spec.lifetime, self._begin_to_close)

    async def begin(self) -> None:
        """Open what its network policy allows. A box for which that fails is closed."""
        try:
            self._environment = await self._ways.begin() | self._environment
        except BaseException:
            await self.close()
            raise

    async def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        request = {"kind": "exec", "argv": _plain(argv), "cwd": self._folder(cwd), "env": self._env(env)}
        return await self._run(Order(request, limits or self.spec.limits), stdin)

    async def python(
        self,
        source: str,
        *,
        argv: Sequence[str] = (),
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        """As `python3 /tmp/main.py`, in an interpreter that is warm. What is set by PYTHON variables or comes with an
        image needs one of its own, and gets it."""
        environment = self._env(env)
        if self.spec.image is not None or any(name.startswith("PYTHON") for name in environment):
            return await super().python(source, argv=argv, stdin=stdin, env=env, limits=limits)
        request = {"kind": "python", "argv": _plain(argv), "cwd": self.spec.workdir, "env": environment}
        order = Order(request, limits or self.spec.limits, payload=source.encode("utf-8", "surrogatepass"))
        return await self._run(order, stdin)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> Process:
        request = {"kind": "exec", "argv": _plain(argv), "cwd": self._folder(cwd), "env": self._env(env)}
        running = self._new(Order(request, limits or self.spec.limits))
        process = SlotProcess(running, (limits or self.spec.limits).output)
        self._spawned.append(process)
        return process

    async def read(self, path: str, max_bytes: int = 16 * MiB) -> bytes:
        return await self._transfer("read", path, max_bytes=max_bytes)

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        await self._transfer("write", path, data, mode=mode)

    async def upload(self, tar: bytes, path: str = ".") -> None:
        await self._transfer("upload", path, tar)

    async def download(self, path: str = ".", max_bytes: int = 64 * MiB) -> bytes:
        return await self._transfer("download", path, max_bytes=max_bytes)

    async def url(self, port: int) -> str:
        return await self._ways.url(port)

    async def close(self) -> None:
        self._begin_to_close()
        assert self._closing is not None
        await asyncio.shield(self._closing)  # whoever is cancelled while waiting leaves nothing behind

    def _begin_to_close(self) -> None:
        if self._closing is None:
            self._lifetime.cancel()
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        for running in self._running:
            running.kill()
        try:
            with suppress(SlotLost):  # it was to end, and has
                if not self._slot.lost:
                    await self._slot.close()
            await self._ways.close()
        finally:
            for process in self._spawned:
                process.close()
            self._slot.detach()
            await self._give_back(self._slot)

    def _new(self, order: Order) -> SlotRun:
        if self._closing is not None:
            raise InfraError("The box is closed, by its owner or at the end of its lifetime. Open a new one.")
        if self._slot.lost:
            raise SlotLost("The box is lost with its slot. Open a new one.")
        running = SlotRun(self._slot, self._cgroups, order)
        self._running.add(running)
        running.ended.add_done_callback(lambda _: self._running.discard(running))
        return running

    async def _run(self, order: Order, stdin: bytes) -> ExecResult:
        running = self._new(order)
        running.start(running.feed(stdin), running.capture(), running.capture())
        try:
            result = await asyncio.shield(running.ended)
        except asyncio.CancelledError:
            running.kill()
            raise
        if self._slot.lost:
            await asyncio.to_thread(self._slot.end)  # so that here, too, nothing is left when the result is there
        return result

    async def _transfer(
        self, kind: str, path: str, data: bytes = b"", *, max_bytes: int = COMPLAINT_BYTES, mode: int = 0o644
    ) -> bytes:
        """Have it done in the box, by a process that may do what the box's programs may."""
        where = relative_to_workdir(self.spec, path)
        request: dict[str, Any] = {"kind": kind, "path": where, "max_bytes": max_bytes, "mode": mode}
        limits = ExecLimits(
            wall=TRANSFER_SECONDS,
            cpu=TRANSFER_SECONDS,
            memory=GiB,
            disk=self.spec.limits.disk,
            output=max(max_bytes, COMPLAINT_BYTES),
        )
        result = await self._run(Order(request, limits, confined=False), data)
        if result.ok and len(result.stdout) <= max_bytes:
            return result.stdout
        if result.ok or result.reason == "output":
            raise ValueError(f"{path!r} in the box is longer than the {max_bytes} bytes that may be read.")
        if result.code != 1:
            raise ValueError(f"{kind} of {path!r} in the box came to no end: {result.reason}.")
        complaint = json.loads(result.stderr)
        if complaint["why"] == "missing":
            raise FileNotFoundError(f"There is no {path!r} in the box.")
        raise ValueError(f"{kind} of {path!r} in the box failed: {complaint['words']}")

    def _folder(self, cwd: str | None) -> str:
        return self.spec.workdir if cwd is None else relative_to_workdir(self.spec, cwd)

    def _env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return self._environment if env is None else {**self._environment, **_plain_values(env)}


def _plain(words: Iterable[str]) -> list[str]:
    """The words as `str` itself, not a subclass, as an enum's members are: a slot is sent no other types."""
    return [str.__str__(word) for word in words]


def _plain_values(env: Mapping[str, str]) -> dict[str, str]:
    return dict(zip(_plain(env), _plain(env.values()), strict=True))


class SlotProcess(Process):
    """A program that runs on in a box. What it writes waits in its pipe, which makes it wait, until somebody reads."""

    def __init__(self, running: SlotRun, output: int) -> None:
        self._running, self._output = running, output
        self._loop = asyncio.get_running_loop()
        stdin, self._stdin = open_pipe()
        self._stdout, stdout = open_pipe()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self._unread = bytearray()
        self._at_end = False
        self._truncated = False
        running.ended.add_done_callback(lambda _: self._close_stdin())
        try:
            running.start(stdin, stdout, os.dup(stdout))
        except BaseException:
            self._close_stdin()
            self._close_stdout()
            raise

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._stdin < 0:
                raise InfraError("The program has ended, or its stdin was closed: it reads no more.")
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await self._ready(self._stdin, writing=True)
            except BrokenPipeError as error:
                raise InfraError("The program has closed its stdin: it reads no more.") from error

    async def read(self, max_bytes: int = 64 * KiB, *, within: float | None = None) -> bytes:
        async with asyncio.timeout(within):
            while not self._unread and not self._at_end:
                if not self._take(max_bytes):
                    await self._ready(self._stdout, writing=False)
        data = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        return data

    async def close_stdin(self) -> None:
        self._close_stdin()

    async def wait(self, *, within: float | None = None) -> ExecResult:
        async with asyncio.timeout(within):
            while not self._at_end and not self._running.ended.done():
                if not self._take(READ_BYTES):
                    await self._ready(self._stdout, writing=False)
            result = await asyncio.shield(self._running.ended)
        while not self._at_end and self._take(READ_BYTES):
            pass
        self._close_stdout()
        stdout = bytes(self._unread)
        self._unread.clear()
        return ExecResult(
            code=result.code,
            signal=result.signal,
            reason="output" if self._truncated else result.reason,
            stdout=stdout,
            stderr=b"",
            truncated=self._truncated,
            wall=result.wall,
            cpu=result.cpu,
            peak_memory=result.peak_memory,
        )

    async def kill(self) -> None:
        self._running.kill()
        await asyncio.wait([self._running.ended])

    def close(self) -> None:
        """Close its pipes: the box is gone, and what nobody has read with it."""
        self._close_stdin()
        self._close_stdout()

    def _take(self, most: int) -> bool:
        """What the pipe has, if it has anything; never more than the output cap in all that nobody has read."""
        if self._stdout < 0:
            self._at_end = True
            return True
        try:
            data = os.read(self._stdout, most)
        except BlockingIOError:
            return False
        self._at_end = not data
        self._unread += data
        if len(self._unread) > self._output:
            del self._unread[self._output :]
            self._truncated = self._at_end = True
            self._running.kill("output")
        return True

    async def _ready(self, fd: int, *, writing: bool) -> None:
        """Until the pipe can be used, or the program has ended."""
        ready: asyncio.Future[None] = self._loop.create_future()
        add, remove = (
            (self._loop.add_writer, self._loop.remove_writer)
            if writing
            else (self._loop.add_reader, self._loop.remove_reader)
        )
        add(fd, lambda: ready.done() or ready.set_result(None))
        try:
            await asyncio.wait([ready, self._running.ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if fd in (self._stdin, self._stdout):  # or it is closed, and may be somebody else's by now
                remove(fd)
        if self._running.ended.done() and not writing and not ready.done():
            self._at_end = not self._take(READ_BYTES)

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            self._loop.remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def _close_stdout(self) -> None:
        if self._stdout >= 0:
            self._loop.remove_reader(self._stdout)
            os.close(self._stdout)
            self._stdout = -1
