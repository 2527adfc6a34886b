"""`UnsafeBackend`: programs as plain subprocesses in a temporary folder, for code that one would run by hand anyway.

Nothing is isolated: a program can read and harm whatever its user can. The contract's shape is kept as far as a plain
subprocess goes: deadlines, output caps, limits of each process, an environment of its own, and an end of all processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import math
import os
import shutil
import signal
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from envkit.errors import InfraError, UsageError
from envkit.sandbox import owners
from envkit.sandbox.base import (
    Backend,
    Capabilities,
    ExecLimits,
    ExecResult,
    KiB,
    MiB,
    Process,
    Sandbox,
    SandboxSpec,
    relative_to_workdir,
)
from envkit.sandbox.running import Running

if TYPE_CHECKING:
    from typing_extensions import Buffer

PREFIX = "envkit-unsafe-"
MARK = "ENVKIT_UNSAFE_BOX"
"""The environment variable by which a box's processes are found again, also those that left their session."""

LAST_WORDS = 0.5
"""Seconds for the pipes of an ended program to close; a process that hides from its end may hold them for ever."""

LIMITED = """
ulimit -c 0; ulimit -S -t "$1"; ulimit -H -t $(($1 + 1)); ulimit -f "$2"; ulimit -d "$3" 2>/dev/null; shift 3
exec "$@"
"""
"""Run by sh: seconds, blocks of 512 bytes, KiB, then the program. RLIMIT_DATA, because interpreters reserve more
address space than they use."""


class UnsafeBackend(Backend):
    """A plain subprocess: only for code that you trust, and only by saying `unsafe=True`."""

    name = "unsafe"

    def __init__(self, *, unsafe: bool = False) -> None:
        if not unsafe:
            raise UsageError(
                "The unsafe backend isolates nothing: a program could read your keys, change your files and use your "
                "network.\nUse the backend 'slot' or 'docker'; for code that you trust, say UnsafeBackend(unsafe=True)."
            )

    async def available(self) -> Capabilities | str:
        return Capabilities(
            memory=False,
            network=frozenset({"open"}),
            isolated=False,
            notes=(
                "no isolation at all: programs run as you",
                "cpu, memory and file size are limited for each process; pids, files and disk in total are not",
            ),
        )

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """UsageError for an image, ports or a network policy, none of which a plain subprocess can hold to."""
        if spec.image is not None:
            raise UsageError(f"The unsafe backend has no images, so it cannot start {spec.image!r}.")
        if spec.network == "loopback" or not isinstance(spec.network, str):
            raise UsageError(f"The unsafe backend cannot hold a program to the network policy {spec.network!r}.")
        if spec.folders or spec.root:
            raise UsageError("The unsafe backend gives a program no root and no folders but its workdir.")
        if spec.ports:
            raise UsageError("The unsafe backend opens no ports: a program that listens is on the host's own network.")
        return _Box(spec, await asyncio.to_thread(_new_root))

    async def sweep(self) -> int:
        return await asyncio.to_thread(_sweep)


class _Box(Sandbox):
    def __init__(self, spec: SandboxSpec, root: Path) -> None:
        self.spec, self.backend = spec, "unsafe"
        self._root = root
        self._numbers = itertools.count()
        self._running: set[_Program] = set()
        self._closed = False
        for folder in (spec.workdir, "/tmp"):
            self._host(folder).mkdir(parents=True, exist_ok=True)
        self._end_of_life = asyncio.get_running_loop().call_later(spec.lifetime, self._expire)

    async def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        program = await self._start(argv, cwd, env, limits or self.spec.limits, interactive=False)
        try:
            program.feed(stdin)
            return await program.wait()
        finally:
            await program.kill()

    async def python(
        self,
        source: str,
        *,
        argv: Sequence[str] = (),
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        if (refused := await self._placed(source)) is not None:
            return refused
        main = str(self._host("/tmp/main.py"))
        return await self.exec(["python3", main, *argv], stdin=stdin, env=env, limits=limits)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> Process:
        return await self._start(argv, cwd, env, limits or self.spec.limits, interactive=True)

    async def read(self, path: str, max_bytes: int = 16 * MiB) -> bytes:
        return await asyncio.to_thread(_read, self._inside(path), max_bytes)

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        if len(data) > self.spec.limits.disk:
            raise ValueError(f"{path!r}: {len(data):,} bytes do not fit a box of {self.spec.limits.disk:,}")
        await asyncio.to_thread(_write, self._inside(path, leaf=False), data, mode)

    async def upload(self, tar: bytes, path: str = ".") -> None:
        await asyncio.to_thread(_unpack, tar, self._inside(path))

    async def download(self, path: str = ".", max_bytes: int = 64 * MiB) -> bytes:
        return await asyncio.to_thread(_pack, self._inside(path), max_bytes)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._end_of_life.cancel()
        await asyncio.gather(*[program.kill() for program in list(self._running)])
        await asyncio.to_thread(_kill_marked, f"{self._root}#")
        await asyncio.to_thread(_remove, self._root)

    def _expire(self) -> None:
        for program in list(self._running):
            program.end("killed")

    def _host(self, path: str) -> Path:
        return Path(f"{self._root}{relative_to_workdir(self.spec, path)}")

    def _inside(self, path: str, *, leaf: bool = True) -> Path:
        """The file on the host, links followed (the last one only if `leaf`); ValueError where they lead out."""
        if self._closed:
            raise InfraError("The box is closed.")
        host = self._host(path)
        real = Path(os.path.realpath(host)) if leaf else Path(os.path.realpath(host.parent)) / host.name
        if real != self._root and self._root not in real.parents:
            raise ValueError(f"{path!r} leads out of the box")
        return real

    async def _start(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str] | None,
        limits: ExecLimits,
        *,
        interactive: bool,
    ) -> _Program:
        where = self._inside(cwd or self.spec.workdir)
        mark = f"{self._root}#{next(self._numbers)}#"
        own = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TMPDIR": str(self._host("/tmp"))}
        own |= {"HOME": str(self._host(self.spec.workdir)), **self.spec.env, **(env or {}), MARK: mark}
        bounds = (math.ceil(limits.cpu), max(1, limits.disk // 512), limits.memory // KiB)
        program = _Program(limits, mark, interactive=interactive, ended=self._running.discard)
        self._running.add(program)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: program,
                "/bin/sh", "-c", LIMITED, "sh", *map(str, bounds), *argv,
                cwd=where,
                env=own,
                start_new_session=True,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT if interactive else asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            self._running.discard(program)
            program.finished(None, None)
            raise InfraError(
                f"The program {argv[0]!r} could not be started in {cwd or self.spec.workdir}: {error}"
            ) from error
        return program


class _Program(Running, asyncio.SubprocessProtocol):
    def __init__(self, limits: ExecLimits, mark: str, *, interactive: bool, ended: Callable[[_Program], None]) -> None:
        super().__init__(limits, interactive=interactive)
        self._mark, self._ended = mark, ended
        self._transport: asyncio.SubprocessTransport | None = None
        self._open = 1 if interactive else 2
        self._began: int | None = None
        self._exited_at = 0.0
        self._writable = asyncio.Event()
        self._writable.set()

    async def write(self, data: bytes) -> None:
        pipe = self._stdin
        if pipe is None or pipe.is_closing() or not self.alive:
            raise InfraError("The program reads no more: it has ended or closed its stdin.")
        pipe.write(data)
        await self._writable.wait()

    async def close_stdin(self) -> None:
        self.feed(b"")

    def feed(self, stdin: bytes) -> None:
        """Send this and an end of file, as far as it reads."""
        if (pipe := self._stdin) is not None and not pipe.is_closing():
            pipe.write(stdin)
            pipe.write_eof()

    @property
    def _stdin(self) -> asyncio.WriteTransport | None:
        return None if self._transport is None else cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._began = owners.start_time(self._transport.get_pid())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.received(fd, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._writable.set()
        else:
            self._open -= 1
            self._check()

    def process_exited(self) -> None:
        """What it started ends with it; then its pipes close by themselves, or are closed."""
        self._exited_at = time.monotonic()
        self._flow(True)
        self._check()

    def _check(self) -> None:
        transport = self._transport
        if transport is None or not self.alive or (code := transport.get_returncode()) is None:
            return
        _kill_marked(self._mark)
        if self._open and time.monotonic() < self._exited_at + LAST_WORDS:
            asyncio.get_running_loop().call_later(0.02, self._check)  # one that was in the middle of an execve
            return
        transport.close()
        self._ended(self)
        self.finished(*((code, None) if code >= 0 else (None, -code)))

    async def _stop(self) -> None:
        if self._transport is not None and self._transport.get_returncode() is None:
            pid = self._transport.get_pid()
            if owners.start_time(pid) in (None, self._began):  # or it is another's, who got the number of a group gone
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        _kill_marked(self._mark)

    def _flow(self, on: bool) -> None:
        pipe = None if self._transport is None else self._transport.get_pipe_transport(1)
        if pipe is not None:
            reader = cast(asyncio.ReadTransport, pipe)
            reader.resume_reading() if on else reader.pause_reading()


def _new_root() -> Path:
    pid = os.getpid()
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{_namespace()}-{pid}-{owners.start_time(pid) or 0}-")).resolve()


def _namespace() -> int:
    """The pid namespace in which this process's number is meant; 0 where there are none."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0


def _kill_marked(mark: str) -> None:
    """End every process that has the mark in its environment, until there is none; only Linux shows environments."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(50):
        found = [pid for pid in _pids() if wanted in _environ(pid)]
        for pid in found:
            owners.kill(pid, lambda pid=pid: wanted in _environ(pid))
        if not found:
            return


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if os.path.isdir("/proc") else []


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _sweep() -> int:
    swept = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}{_namespace()}-*-*-*"):
        pid, started = (int(part) if part.isdigit() else 0 for part in folder.name.split("-")[3:5])
        with contextlib.suppress(FileNotFoundError):
            if owners.is_ours(folder.lstat()) and owners.start_time(pid) != started:
                _kill_marked(f"{os.path.realpath(folder)}#")
                _remove(folder)
                swept += 1
    return swept


def _remove(folder: Path) -> None:
    """The folder is gone, also where a program took away the right to change what is in it."""

    def allow(function: Callable[[str], object], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            function(path)

    shutil.rmtree(folder, onerror=allow)


def _read(file: Path, max_bytes: int) -> bytes:
    fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"{file.name!r} is no regular file")
        with open(fd, "rb", closefd=False) as stream:
            data = stream.read(max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise ValueError(f"{file.name!r} is longer than {max_bytes:,} bytes")
    return data


def _write(file: Path, data: bytes, mode: int) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=file.parent)
        try:
            with open(fd, "wb") as stream:
                stream.write(data)
                os.fchmod(fd, mode)
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ValueError(f"{file.name!r} cannot be written: {error.strerror}") from error


def _unpack(tar: bytes, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"The archive cannot be unpacked: {error}") from error


def _pack(path: Path, max_bytes: int) -> bytes:
    packed = _Capped(max_bytes)
    if not path.exists():
        raise FileNotFoundError(path.name)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(path, arcname="." if path.is_dir() else path.name)
    return packed.getvalue()


class _Capped(io.BytesIO):
    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Buffer, /) -> int:
        if self.tell() + memoryview(data).nbytes > self._most:
            raise ValueError(f"What is asked for is longer than {self._most:,} bytes")
        return super().write(data)
