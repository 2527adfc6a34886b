"""`DockerBox`: one container, in which programs run one after the other or side by side as the same unprivileged user.

No file of the box is ever opened from outside: reading and writing are programs in the box too, so a link that a
program planted leads nowhere but into its own box.
"""

from __future__ import annotations

import asyncio
import posixpath
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import ExecLimits, ExecResult, MiB, Process, Sandbox, SandboxSpec, relative_to_workdir
from envkit.sandbox.docker.daemon import Daemon, Refused
from envkit.sandbox.docker.program import Program, Usage
from envkit.sandbox.ways import Ways

RESERVE = 40
"""Processes beyond the limit for what enters the box to clear it: runc alone has some ten threads."""

ENTERING = 20.0
"""Seconds for our own scripts in a box that its programs may have brought to its knees."""

FILE_SECONDS = 60.0

INLINE = 100_000
"""Bytes of a program that still fit one argument: the kernel allows 128 KiB."""

MISSING, IRREGULAR = 44, 45
"""Exit codes of the scripts below; tools use 1 and 2."""

ATTEMPTS = 3
"""To clear a box: our shell may be what the kernel kills where the box's memory is used up."""

FIRST_USER, USERS = 1_000_000_000, 1_000_000_000
"""Each box has a user of its own, drawn from these: the kernel counts processes by user, over all containers. So has
each program its group, by which its processes are known from those of others: no program can change it."""

KEEPER = 65534
"""The group of the box's own processes and of our scripts, which no program has."""

CLEAR = f"""
walk() {{
    left= new=
    for folder in /proc/[0-9]*; do
        state= group=0 pid=${{folder#/proc/}}
        while read -r key value _; do
            case $key in State:) state=$value ;; Gid:) group=$value; break ;; esac
        done <$folder/status
        case " $1 $state " in *" $group "* | *" [ZX] "*) continue ;; esac
        [ "$group" -ge {FIRST_USER} ] || continue
        kill -9 $pid
        left=1
        case " $killed " in *" $pid "*) ;; *) new=1 killed="$killed $pid" ;; esac
    done
}}
{{
    killed= round=0 stopped=
    walk "$1"
    while [ $left ] && [ $((round += 1)) -lt 1000 ]; do
        walk "$1"
        [ ! $new ] || {{ stopped=1; kill -STOP -1; }}
    done
    [ ! $stopped ] || kill -CONT -1
}} 2>/dev/null
[ ! $left ] || exit 1
"""
"""Kills the programs of all groups but those in $1. What forks faster than it is found is stopped first, all at once,
and with it, for a moment, what is spared. It starts nothing itself, for which there may be no room."""

ACCOUNT = """
cd /sys/fs/cgroup || exit 0
for file in cpu.stat memory.peak memory.events cpuacct/cpuacct.usage memory/memory.max_usage_in_bytes \\
    memory/memory.oom_control; do
    [ -r $file ] && while read -r line; do echo "$file $line"; done <$file
done
exit 0
"""
"""What the box has used, as its kernel says: cgroup 2 and cgroup 1."""

PYTHON = """
[ ! -e /tmp/main.py ] || [ -f /tmp/main.py ] && [ ! -h /tmp/main.py ] || rm -rf /tmp/main.py
printf %s "$1" >/tmp/main.py || exit 126
shift
exec python3 /tmp/main.py "$@"
"""
READ = f'[ -e "$1" ] || exit {MISSING}; [ -f "$1" ] || exit {IRREGULAR}; exec cat -- "$1"'
WRITE = f"""
mkdir -p -- "$2" || exit 1
[ -d "$1" ] && exit {IRREGULAR}
rm -f -- "$1" && {{ cat >"$1" && chmod "$3" -- "$1" || {{ rm -f -- "$1"; exit 1; }}; }}
"""
UNPACK = 'mkdir -p -- "$1" && cd -- "$1" && exec tar -x -o -f -'
PACK = f"""
[ -e "$1" ] || exit {MISSING}
if [ -d "$1" ]; then cd -- "$1" && exec tar -c -f - .; fi
cd -- "$2" && exec tar -c -f - "./$3"
"""


class DockerBox(Sandbox):
    def __init__(
        self, daemon: Daemon, container: str, spec: SandboxSpec, *, image: str, user: int, fixed: bool
    ) -> None:
        """`fixed`: the runtime cannot change the limits of a container that runs."""
        self.spec, self.backend = spec, f"docker {daemon.address} {image}"
        self._daemon, self._container, self._user, self._fixed = daemon, container, user, fixed
        self._ways = Ways(self)
        self._environment: dict[str, str] = {}
        self._live: set[Program] = set()
        self._used = Usage()
        self._before: dict[Program, Usage] = {}
        self._shared: set[Program] = set()
        self._turn = asyncio.Lock()
        self._bounds = (spec.limits.memory, spec.limits.pids)
        self._broken = ""
        self._watches: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Open what its network policy allows."""
        self._environment = await self._ways.begin()

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
        """As the contract says; a short program travels with its own execution, which halves the cost."""
        try:
            inline = "\0" not in source and len(source.encode()) <= INLINE
        except UnicodeEncodeError:
            inline = False
        if not inline:
            return await super().python(source, argv=argv, stdin=stdin, env=env, limits=limits)
        return await self.exec(["/bin/sh", "-c", PYTHON, "sh", source, *argv], stdin=stdin, env=env, limits=limits)

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
        full = relative_to_workdir(self.spec, path)
        return self._content(path, await self._script(READ, full, output=max_bytes), max_bytes)

    async def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        full = relative_to_workdir(self.spec, path)
        result = await self._script(WRITE, full, posixpath.dirname(full), f"{mode:o}", stdin=data)
        if not result.ok:
            raise ValueError(f"{path!r} cannot be written: {_said(result)}")

    async def upload(self, tar: bytes, path: str = ".") -> None:
        result = await self._script(UNPACK, relative_to_workdir(self.spec, path), stdin=tar)
        if not result.ok:
            raise ValueError(f"The archive cannot be unpacked in {path!r}: {_said(result)}")

    async def download(self, path: str = ".", max_bytes: int = 64 * MiB) -> bytes:
        full = relative_to_workdir(self.spec, path)
        result = await self._script(PACK, full, posixpath.dirname(full), posixpath.basename(full), output=max_bytes)
        return self._content(path, result, max_bytes)

    async def url(self, port: int) -> str:
        return await self._ways.url(port)

    async def close(self) -> None:
        self._broken = "The box is closed."
        for watch in self._watches:
            watch.cancel()
        await self._take_down()
        await self._ways.close()

    async def _script(self, script: str, *argv: str, stdin: bytes = b"", output: int = MiB) -> ExecResult:
        """A program of our own in the box, whose output may be as long as a file."""
        limits = self.spec.limits.model_copy(
            update={"wall": FILE_SECONDS, "cpu": FILE_SECONDS, "output": max(1, output)}
        )
        return await self.exec(["/bin/sh", "-c", script, "sh", *argv], stdin=stdin, cwd="/", limits=limits)

    def _content(self, path: str, result: ExecResult, max_bytes: int) -> bytes:
        if result.code == MISSING:
            raise FileNotFoundError(path)
        if result.code == IRREGULAR:
            raise ValueError(f"{path!r} is no regular file")
        if result.reason == "output" or len(result.stdout) > max_bytes:
            raise ValueError(f"{path!r} is longer than {max_bytes:,} bytes")
        if not result.ok:
            raise ValueError(f"{path!r} cannot be read: {_said(result)}")
        return result.stdout

    async def _start(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str] | None,
        limits: ExecLimits,
        *,
        interactive: bool,
    ) -> Program:
        where = relative_to_workdir(self.spec, cwd or self.spec.workdir)
        own = {"HOME": "/root" if self.spec.root else self.spec.workdir}
        own |= {**self._environment, **self.spec.env, **(env or {})}
        async with self._turn:
            if self._broken:
                raise InfraError(self._broken)
            await self._make_room(limits)
            program = Program(
                self._daemon,
                limits,
                group=FIRST_USER + secrets.randbelow(USERS),
                interactive=interactive,
                end=self._end,
                settled=self._settle,
            )
            self._live.add(program)
            self._before[program] = self._used
            if len(self._live) > 1:
                self._shared |= self._live
            # gVisor has one such limit for the whole box, which cannot be raised again
            pids = 0 if self._fixed else sum(one.limits.pids for one in self._live)
            try:
                await program.run(self._container, argv, user=self._user, pids=pids, cwd=where, env=own)
            except BaseException as error:
                program.failed(InfraError(f"{argv[0]!r} was not started: {error!r}"))
                self._forget(program)
                await asyncio.shield(self._clear())
                raise
        if limits.cpu < limits.wall:
            watch = asyncio.create_task(self._watch_cpu(program))
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)
        return program

    async def _make_room(self, limits: ExecLimits) -> None:
        """The container's limits are the largest memory and the sum of the processes of what runs in it."""
        memory = max([limits.memory, *(one.limits.memory for one in self._live)])
        pids = limits.pids + sum(one.limits.pids for one in self._live)
        if self._fixed and limits.memory != self.spec.limits.memory:
            raise UsageError("This runtime cannot change a box's memory limit: give it in the SandboxSpec instead.")
        if self._fixed or (memory, pids) == self._bounds:
            return
        bounds = {"Memory": memory, "MemorySwap": memory, "PidsLimit": pids + RESERVE}
        await self._daemon.post(f"/containers/{self._container}/update", bounds)
        self._bounds = (memory, pids)

    async def _watch_cpu(self, program: Program) -> None:
        """End a program that has used its processor time; a box has one processor, so that looking seldom is enough."""
        left = program.limits.cpu
        while left > 0:
            await asyncio.sleep(max(0.05, left))
            async with self._turn:
                if not program.alive or program in self._shared or program not in self._before:
                    return
                used = await self._inside(ACCOUNT)
                left = program.limits.cpu - (used.cpu - self._before[program].cpu)
        if program.alive and left <= 0:
            program.end("timeout")

    async def _end(self, program: Program) -> None:
        async with self._turn:
            if program.alive:
                await self._clear(program)

    async def _settle(self, program: Program) -> tuple[float | None, int | None, bool]:
        """Kill what the ended program left. Its CPU seconds and peak memory, and whether memory ran out meanwhile."""
        async with self._turn:
            before, alone = self._before[program], program not in self._shared
            used = await self._clear(program)
            self._forget(program)
            cpu = max(0.0, used.cpu - before.cpu) if alone and used.cpu else None  # gVisor keeps no account
            return cpu, used.peak if alone and used.peak > before.peak else None, used.oom_kills > before.oom_kills

    async def _clear(self, ended: Program | None = None) -> Usage:
        """Kill every process of a program that does not go on running."""
        spared = " ".join(str(one.group) for one in self._live if one is not ended)
        self._used = await self._inside(CLEAR + ACCOUNT, spared)
        return self._used

    async def _inside(self, script: str, *argv: str) -> Usage:
        """A script of our own in the box, beside its programs. A box that cannot run it is taken down."""
        try:
            async with asyncio.timeout(ENTERING):
                for _ in range(ATTEMPTS):
                    code, said = await self._entered(script, *argv)
                    if code == 0:
                        return Usage.of(said)
            why = "The box was taken down: its programs left no room to enter it, or ended it."
        except Refused as refusal:
            why = f"The box is gone, by its lifetime or by somebody's hand. {refusal}"
        except TimeoutError:
            why = f"The box was taken down: it could not be entered within {ENTERING:.0f} s to end a program."
        if self._broken or not await self._restarted():
            self._broken = self._broken or why
            await self._take_down()
        return self._used

    async def _restarted(self) -> bool:
        """End what keeps our scripts out, with all that runs in the box. Only a box of root's keeps its files then;
        and only there programs can signal our scripts, as root themselves."""
        if not self.spec.root:
            return False
        for program in self._live:
            program.doom()
        try:
            await self._daemon.call("restart", self._container, timeout=0)
        except InfraError:
            return False
        return True

    async def _entered(self, script: str, *argv: str) -> tuple[int, bytes]:
        """As root of the box, whom programs cannot signal unless they are root themselves; see `_container`."""
        command = ["/bin/sh", "-c", script, "sh", *argv]
        created = await self._daemon.call("exec_create", self._container, command, user=f"0:{KEEPER}", workdir="/")
        said = await self._daemon.call("exec_start", created["Id"])
        return (await self._daemon.call("exec_inspect", created["Id"]))["ExitCode"], said

    async def _take_down(self) -> None:
        for program in self._live:
            program.doom()
        await remove(self._daemon, self._container)

    def _forget(self, program: Program) -> None:
        self._live.discard(program)
        self._before.pop(program, None)
        self._shared.discard(program)


async def remove(daemon: Daemon, container: str) -> None:
    """Kill the container and drop its files; also one that is gone, or is going."""
    try:
        await daemon.call("remove_container", container, force=True, v=True)
    except Refused as refusal:
        if refusal.status not in (404, 409):
            raise
        for _ in range(100):
            if not await _exists(daemon, container):
                return
            await asyncio.sleep(0.05)
        raise


async def _exists(daemon: Daemon, container: str) -> bool:
    try:
        await daemon.call("inspect_container", container)
    except Refused as refusal:
        if refusal.status == 404:
            return False
        raise
    return True


def _said(result: ExecResult) -> str:
    """What a tool in the box said last, fit for a terminal."""
    lines: list[Any] = result.stderr.decode("utf-8", "replace").strip().splitlines()
    return ascii(lines[-1][-200:]) if lines else f"{result.reason}, code {result.code}, signal {result.signal}"
