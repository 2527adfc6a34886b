"""A program in a container: `docker exec` through a shell that sets its limits, ended by killing inside the container.

That the client of an execution goes away ends nothing in the box, so a program is over only when the daemon says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from envkit.errors import InfraError
from envkit.sandbox.base import ExecLimits
from envkit.sandbox.docker.daemon import HEADER, Daemon, Refused
from envkit.sandbox.running import Running

LIMITED = """
ulimit -S -t "$1"; ulimit -H -t $(($1 + 1)); ulimit -f "$2"
if [ "$3" = 0 ]; then :; elif (ulimit -u "$3") 2>/dev/null; then ulimit -u "$3"; else ulimit -p "$3"; fi
[ "$4" = apart ] || exec 2>&1
shift 4
exec "$@"
"""
"""Run by sh: seconds, a file's blocks of 512 bytes, the user's processes (0: no more said), whether stderr stays apart,
the program."""

SIGNALS = frozenset(int(number) for number in signal.valid_signals())

FIRST_LOOK, LAST_LOOK = 0.02, 0.5
"""Seconds between looks at a program that has closed its output and runs on."""


@dataclass(frozen=True)
class Usage:
    """What a container has used so far: CPU seconds, the most memory at once in bytes, kills for want of memory."""

    cpu: float = 0.0
    peak: int = 0
    oom_kills: int = 0

    @classmethod
    def of(cls, account: bytes) -> Usage:
        """From lines of a file's name, a key if it has any, and a number; what is missing counts as 0."""
        lines = (line.rsplit(maxsplit=1) for line in account.decode("ascii", "replace").splitlines())
        values = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}

        def either(first: str, second: str) -> int:
            return values.get(first, values.get(second, 0))

        nanoseconds = values.get("cpuacct/cpuacct.usage", values.get("cpu.stat usage_usec", 0) * 1000)
        peak = either("memory.peak", "memory/memory.max_usage_in_bytes")
        return cls(nanoseconds / 1e9, peak, either("memory.events oom_kill", "memory/memory.oom_control oom_kill"))


class Program(Running):
    """`group` is the group of its processes and of no others.

    `settled` is told when it is over, kills what it left, and says what the box has used in between."""

    def __init__(
        self,
        daemon: Daemon,
        limits: ExecLimits,
        *,
        group: int,
        interactive: bool,
        end: Callable[[Program], Awaitable[None]],
        settled: Callable[[Program], Awaitable[tuple[float | None, int | None, bool]]],
    ) -> None:
        self.group = group
        self._daemon, self._end, self._settled = daemon, end, settled
        self._may_read = asyncio.Event()
        self._may_read.set()
        super().__init__(limits, interactive=interactive)

    async def run(
        self, container: str, argv: Sequence[str], *, user: int, pids: int, cwd: str, env: Mapping[str, str]
    ) -> None:
        """Start it; `pids` is what all of the box's programs may have."""
        apart = "joined" if self._interactive else "apart"
        seconds, blocks = math.ceil(self.limits.cpu), max(1, self.limits.disk // 512)
        created = await self._daemon.call(
            "exec_create",
            container,
            ["/bin/sh", "-c", LIMITED, "sh", str(seconds), str(blocks), str(pids), apart, *argv],
            stdin=True,
            user=f"{user}:{self.group}",
            workdir=cwd,
            environment=dict(env),
        )
        self._execution: str = created["Id"]
        self._reader, self._writer = await self._daemon.attach(self._execution)
        self._pump = asyncio.create_task(self._follow())

    async def write(self, data: bytes) -> None:
        if not self.alive or self._writer.is_closing():
            raise InfraError("The program reads no more: it has ended or its stdin was closed.")
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise InfraError(f"The program reads no more: {error}") from error

    async def close_stdin(self) -> None:
        self.feed(b"")

    def feed(self, stdin: bytes) -> None:
        """Send this and an end of file, as far as it reads."""
        with contextlib.suppress(OSError):
            self._writer.write(stdin)
            self._writer.write_eof()

    def doom(self) -> None:
        """Its box is about to go: the daemon may leave the streams of such a box open for ever."""
        self._reason = self._reason or "killed"
        self._flow(True)
        self._writer.close()

    async def _follow(self) -> None:
        """Read what it writes until it is over, and settle what it leaves."""
        try:
            await self._read_all()
            code = await self._exit_code()
            cpu, peak, out_of_memory = await self._settled(self)
        except Refused as refusal:
            if self._reason is None:
                self.failed(refusal)
            else:
                self.finished(None, int(signal.SIGKILL))  # with its whole box
            return
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            self.failed(error)
            return
        finally:
            self._writer.close()
        by = code - 128 if code - 128 in SIGNALS else None
        if out_of_memory and by == signal.SIGKILL:
            self._reason = self._reason or "memory"
        self.finished(code if by is None else None, by, cpu=cpu, peak=peak)

    async def _read_all(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._may_read.wait()
                stream, length = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                while length:
                    data = await self._reader.read(min(length, 1 << 16))
                    if not data:
                        return
                    length -= len(data)
                    self.received(2 if stream == 2 else 1, data)

    async def _exit_code(self) -> int:
        pause = FIRST_LOOK
        while True:
            state = await self._daemon.call("exec_inspect", self._execution)
            if not state["Running"]:
                return int(state["ExitCode"])
            await asyncio.sleep(pause)
            pause = min(LAST_LOOK, 2 * pause)

    async def _stop(self) -> None:
        """One that had already exited, and only left others holding its pipes, was not late."""
        self._flow(True)
        if self._reason == "timeout":
            with contextlib.suppress(Refused):
                if not (await self._daemon.call("exec_inspect", self._execution))["Running"]:
                    self._reason = None
        await self._end(self)

    def _flow(self, on: bool) -> None:
        if on:
            self._may_read.set()
        else:
            self._may_read.clear()
