"""The sandbox seam: a `Backend` starts a `Sandbox`, and a `Sandbox` runs commands that nobody trusts.

Nothing that a program does raises here: it is in the `ExecResult`. What raises is an `InfraError`, where the sandbox
itself failed: never a verdict on the program.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from envkit.errors import UsageError

Reason = Literal["exit", "timeout", "memory", "output", "killed"]
"""Why a program ended: by itself, at its deadline, at its memory limit, at its output cap, or because it was killed.

A signal that a program brings upon itself, as SIGSEGV or SIGTERM, is its own end: "exit". SIGXCPU is always "timeout",
and SIGKILL, whoever sent it, "killed" where it was none of the limits.
"""

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30


class ExecLimits(BaseModel):
    """What one execution may use; all finite. A backend enforces all, or says in `Capabilities` which it cannot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall: float = Field(default=10.0, gt=0)
    """Seconds by the clock."""
    cpu: float = Field(default=10.0, gt=0)
    """Seconds of processor time, over all processes."""
    memory: int = Field(default=GiB, gt=0)
    """Bytes over all processes, where the backend has cgroups; of each process elsewhere."""
    pids: int = Field(default=64, gt=0)
    """Processes and threads at once."""
    disk: int = Field(default=64 * MiB, gt=0)
    """Bytes that may be written to the box's file systems."""
    files: int = Field(default=4096, gt=0)
    """Files and folders that may be made."""
    output: int = Field(default=MiB, gt=0)
    """Bytes of stdout, and of stderr, that are kept; a program that writes on is ended."""


class Allow(BaseModel):
    """A network policy: only these hosts, each a name or an address with or without a port, may be reached.

    They are reached through an HTTP proxy (see `envkit.sandbox.proxy`), which HTTP_PROXY, HTTPS_PROXY and ALL_PROXY
    name in the box: programs that honour these get out, and nothing else does, be it to these hosts. A name's address
    has to be public, or allowed itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hosts: tuple[str, ...]


Network = Literal["none", "loopback", "open"] | Allow


class SandboxSpec(BaseModel):
    """What a box is made of. Boxes of equal specs are alike, so a pool may hand out any of them.

    `image` is the backend's own word for a root file system; None is its default. `limits` hold for each execution
    that names none; `disk` and `files` hold for the box.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str | None = None
    workdir: str = "/work"
    folders: tuple[str, ...] = ()
    """Further folders of the box's own, absolute and empty at first, beside `workdir`, /tmp and /dev/shm."""
    root: bool = False
    """Programs are root of their box, without root's capabilities, and may change all of its image, whatever `limits`
    say of disk and files. For images that expect it: less stands between such programs and the kernel."""
    env: Mapping[str, str] = Field(default_factory=dict[str, str])
    network: Network = "none"
    limits: ExecLimits = ExecLimits()
    lifetime: float = Field(default=3600.0, gt=0)
    """Seconds after which the box is taken down, whoever still uses it."""
    ports: tuple[int, ...] = ()
    """Ports inside that `Sandbox.url` can be asked for; the network is not "none" then."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a program ended, and what it wrote and took.

    `code` is its exit code, None where a signal ended it; `signal` the reverse. stdout and stderr are bytes as they
    came, at most `limits.output` of each; `truncated` says whether there was more. Seconds; peak memory in bytes,
    None where the backend cannot tell.
    """

    code: int | None
    signal: int | None
    reason: Reason
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    wall: float = 0.0
    cpu: float | None = None
    peak_memory: int | None = None

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with code 0."""
        return self.reason == "exit" and self.code == 0


class Process(ABC):
    """A program that goes on running in a box, with pipes to its stdin and stdout (stderr joins stdout)."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send bytes to its stdin; InfraError where it reads no more."""

    @abstractmethod
    async def read(self, max_bytes: int = 64 * KiB, *, within: float | None = None) -> bytes:
        """What it has written since, at least one byte; b"" at its end. TimeoutError after `within` seconds."""

    @abstractmethod
    async def close_stdin(self) -> None:
        """Let it read an end of file."""

    @abstractmethod
    async def wait(self, *, within: float | None = None) -> ExecResult:
        """Its end; what was not read is in `stdout`. TimeoutError after `within` seconds, which does not end it."""

    @abstractmethod
    async def kill(self) -> None:
        """End it and everything that it started."""


class Sandbox(ABC):
    """A box with files of its own that last until it is closed. Its programs see no other box and nothing of the host.

    Paths are absolute, or relative to the spec's `workdir`. One execution leaves no process behind; files stay.
    """

    spec: SandboxSpec
    backend: str = ""
    """Which backend made it, and of what where the spec does not say: boxes of one word have the same programs."""

    @abstractmethod
    async def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        """Run a program to its end. Never raises for what the program does; code 127 where there is no such program."""

    async def python(
        self,
        source: str,
        *,
        argv: Sequence[str] = (),
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> ExecResult:
        """Run a Python program as `__main__`, as `python3 main.py` would; a backend may have an interpreter warm.

        One at a time in a box, for each is written to /tmp/main.py; `exec` may be called at once as often as you like.
        """
        if (refused := await self._placed(source)) is not None:
            return refused
        return await self.exec(["python3", "/tmp/main.py", *argv], stdin=stdin, env=env, limits=limits)

    async def _placed(self, source: str) -> ExecResult | None:
        """Write /tmp/main.py. Where earlier programs left no room for it, or something in its place, that is how the
        execution ends, and no failure of the sandbox."""
        try:
            await self.write("/tmp/main.py", source.encode("utf-8", "surrogatepass"))
        except ValueError as error:
            return ExecResult(126, None, "exit", b"", f"{error}\n".encode("utf-8", "backslashreplace"))
        return None

    @abstractmethod
    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        limits: ExecLimits | None = None,
    ) -> Process:
        """Start a program and leave it running beside what `exec` runs; `limits.wall` is its deadline."""

    @abstractmethod
    async def read(self, path: str, max_bytes: int = 16 * MiB) -> bytes:
        """A file's bytes, never through a link that leads out of the box.

        FileNotFoundError where there is none, ValueError where it is longer than `max_bytes` or no regular file.
        """

    @abstractmethod
    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Make or replace a file, with the folders above it. ValueError where the box has no room for it."""

    @abstractmethod
    async def upload(self, tar: bytes, path: str = ".") -> None:
        """Unpack a tar archive in a folder of the box, which is made if need be."""

    @abstractmethod
    async def download(self, path: str = ".", max_bytes: int = 64 * MiB) -> bytes:
        """A folder or file of the box as a tar archive with relative names; ValueError where it is longer."""

    async def url(self, port: int) -> str:
        """Where this machine reaches what listens at this port of the box's 127.0.0.1: one of the spec's `ports`."""
        raise NotImplementedError(f"{type(self).__name__} opens no ports")

    @abstractmethod
    async def close(self) -> None:
        """End every process in the box and drop its files. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()


@dataclass(frozen=True)
class Capabilities:
    """What a backend really does on this machine."""

    memory: bool = True
    """Memory is limited over all processes of an execution, not only for each."""
    network: frozenset[str] = frozenset({"none"})
    """Of "none", "loopback", "allow" and "open"."""
    images: bool = False
    """`SandboxSpec.image` is understood."""
    root: bool = False
    """`SandboxSpec.root` is understood."""
    ports: bool = False
    """`SandboxSpec.ports` is understood."""
    isolated: bool = True
    """False where a program can read or harm the host."""
    notes: tuple[str, ...] = ()


class Backend(ABC):
    """A way to run untrusted code, here or elsewhere; the entry point group `envkit.sandbox` names such classes."""

    name: str

    @classmethod
    def variant(cls, word: str) -> Backend:
        """The one that is asked for as NAME:WORD. UsageError where the backend knows no such word."""
        raise UsageError(f"The sandbox backend {cls.name!r} has no variants, and {cls.name}:{word} is asked for.")

    @abstractmethod
    async def available(self) -> Capabilities | str:
        """What it can do here, or one sentence that says why it cannot be used and what to do about it."""

    @abstractmethod
    async def start(self, spec: SandboxSpec) -> Sandbox:
        """A new, empty box. UsageError for a spec that this backend cannot hold to, InfraError where it fails."""

    @abstractmethod
    async def sweep(self) -> int:
        """Take down what killed processes of this user left on this machine; how many boxes that were."""

    async def close(self) -> None:  # noqa: B027 - most backends hold nothing between boxes
        """Free what the backend keeps warm. It can be used again afterwards."""


def relative_to_workdir(spec: SandboxSpec, path: str) -> str:
    """The absolute path, without "." and ".."; ValueError where it leaves the root."""
    parts: list[str] = []
    for part in Path(spec.workdir, path).parts[1:]:
        if part == "..":
            if not parts:
                raise ValueError(f"{path!r} is not in the box")
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def shortened(result: ExecResult, output: int) -> ExecResult:
    """The result with at most `output` bytes of each stream."""
    if len(result.stdout) <= output and len(result.stderr) <= output:
        return result
    return replace(result, stdout=result.stdout[:output], stderr=result.stderr[:output], truncated=True)
