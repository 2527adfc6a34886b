"""The host's side of one slot: the connection to its init, what runs in it, and the certainty that it can be ended.

A slot is started in a thread, because that blocks, and then belongs to one box and one event loop at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import marshal
import os
import select
import signal
import site
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envkit.errors import InfraError
from envkit.sandbox.slot import seccomp
from envkit.sandbox.slot.cgroups import Cgroups, Lane

START_SECONDS = 20.0
"""A slot starts in 0.2 s; on a busy machine in more."""

ANSWER_SECONDS = 1.0
"""What init does at once: ending an execution, opening or closing a box. A slot that takes longer is replaced."""

EXECUTIONS_PER_SLOT = 1000
"""Then a new one: all programs of a slot share its interpreter's hash seed and address layout."""

OUTSIDE_UID = 0x70000000
"""As root: the first of the uids that systemd and useradd leave to nobody. Each slot has one of its own above it."""

_MESSAGE_BYTES = 1 << 16
_BOOT = """
import sys
sys.path.append({folder!r})
from slot.init import started
sys.path_importer_cache.pop(sys.path.pop(), None)
sys.dont_write_bytecode = False
started()
"""
"""Read from stdin, because a command line can be read by all programs in the slot."""

Rlimits = list[tuple[int, int]]
"""Each a resource, as the module of that name numbers them, and how much of it."""


@dataclass(frozen=True)
class Make:
    """What slots are told apart by."""

    image: Path | None = None
    workdir: str = "/work"
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """What init says of an execution. `status` is as of `os.wait`, None where it was killed from outside."""

    status: int | None
    late: bool
    cpu: float
    rss: int | None


class SlotLost(InfraError):
    """The slot is gone, and with it the box and all that ran in it."""


class Slot:
    """One slot, from its start to `end`. `start` and `end` block; the rest belongs to the loop of `attach`."""

    def __init__(
        self, make: Make, number: int, process: subprocess.Popen[bytes], control: socket.socket, init: int
    ) -> None:
        self.make, self._number = make, number
        self.pids = [process.pid, init]
        self.executions = 0
        self.lost = False
        self._process, self._control = process, control
        self._init = os.pidfd_open(init)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = 0
        self._runs: dict[int, asyncio.Future[Ended]] = {}
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._lanes: list[Lane] = []
        self._free_lanes: list[Lane] = []
        self._ending = threading.Lock()

    @classmethod
    def start(cls, make: Make, number: int) -> Slot:
        """A new slot; InfraError that says what the machine refuses. Blocks for as long as that takes.

        The kernel ends the slot when the calling thread ends: call it in a thread that lasts as long as the process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            boot = _BOOT.format(folder=str(Path(__file__).parent.parent))
            process = subprocess.Popen(
                [_interpreter(), "-I", "-S", "-B", "-", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(boot.encode())
            ours.settimeout(START_SECONDS)
            ours.send(json.dumps(_config(make, number)).encode())
            said: dict[str, Any] = {}
            while not said.keys() >= {"init", "ready"}:  # two processes say so
                said |= _hear_start(ours)
            slot = cls(make, number, process, ours, said["init"])
        except BaseException as error:
            process.kill()  # with which init ends
            process.wait()
            ours.close()
            if isinstance(error, OSError):
                raise InfraError(f"A slot did not start: {error}") from error
            raise
        ours.setblocking(False)
        return slot

    def end(self) -> None:
        """Kill everything in it, and return when it is gone. Blocks; may be called twice, from any thread."""
        self.lost = True
        with self._ending:
            if self._init >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._init, signal.SIGKILL)
                try:
                    self._process.wait(5.0)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self.let_go()
            for lane in self._lanes:
                lane.remove()
            self._lanes.clear()
            self._free_lanes.clear()

    def let_go(self) -> None:
        """Close what this process has of it, and leave it to others: in a fork, it is the parent's."""
        self.lost = True
        self._control.close()
        if self._init >= 0:
            os.close(self._init)
            self._init = -1

    @property
    def alive(self) -> bool:
        """Whether it can be handed out. An idle slot has nothing to say but its end."""
        if self.lost or self._process.poll() is not None:
            return False
        control = select.poll()  # `select` itself ends at descriptor 1024, of which a busy client has more
        control.register(self._control, select.POLLIN)
        return not control.poll(0)

    @property
    def worn(self) -> bool:
        return self.executions >= EXECUTIONS_PER_SLOT

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on it is this loop's."""
        self._loop = loop
        loop.add_reader(self._control, self._hear)

    def detach(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._control)
        self._loop = None

    async def open(self, *, disk: int, files: int, loopback: bool) -> None:
        """Empty file systems for a box."""
        await self._ask({"do": "open", "disk": disk, "files": files, "loopback": loopback})

    async def close(self) -> None:
        """End everything in the box and drop its files."""
        await self._ask({"do": "close"})

    def run(
        self, fds: Sequence[int], *, wall: float, rlimits: list[tuple[int, int]]
    ) -> tuple[int, asyncio.Future[Ended]]:
        """Start an execution; its number, and its end. SlotLost where the slot is gone."""
        assert self._loop is not None
        self._numbers += 1
        self.executions += 1
        number = self._numbers
        future: asyncio.Future[Ended] = self._loop.create_future()
        future.add_done_callback(_looked_at)
        self._runs[number] = future
        self._send({"do": "run", "number": number, "wall": wall, "rlimits": rlimits}, fds)
        return number, future

    def kill(self, number: int) -> None:
        """End an execution and everything that it started. If init does not say within a second that this is done,
        the slot ends."""
        if number not in self._runs or self._loop is None:
            return
        with contextlib.suppress(SlotLost):
            self._send({"do": "kill", "number": number})
        self._loop.call_later(ANSWER_SECONDS, self._overdue, number)

    def lane(self, cgroups: Cgroups, *, memory: int, pids: int) -> Lane:
        """A cgroup with these limits that nobody else uses; give it back with `free`."""
        while True:
            fresh = not self._free_lanes
            if fresh:
                self._lanes.append(cgroups.lane(f"{self._number}-{len(self._lanes)}"))
                self._free_lanes.append(self._lanes[-1])
            lane = self._free_lanes.pop()
            try:
                lane.limit(memory=memory, pids=pids)
            except OSError:  # files of the box, still in memory, take more: it is removed with the slot
                if fresh:
                    raise
            else:
                return lane

    def free(self, lane: Lane) -> None:
        self._free_lanes.append(lane)

    async def _ask(self, message: dict[str, Any]) -> None:
        assert self._loop is not None
        self._answer = self._loop.create_future()
        self._send(message)
        try:
            async with asyncio.timeout(ANSWER_SECONDS + START_SECONDS * (message["do"] == "open")):
                await self._answer
        except TimeoutError:
            self._lose(f"The slot did not {message['do']} its box in time.")
            raise SlotLost(f"The slot did not {message['do']} its box in time, and was ended.") from None
        finally:
            self._answer = None

    def _send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._control, [marshal.dumps(message)], list(fds))
        except OSError as error:
            self._lose(f"The slot is gone: {error}.")
            raise SlotLost(f"The slot is gone: {error}. Open a new box.") from error

    def _hear(self) -> None:
        try:
            text = self._control.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if not text:
            self._lose("The slot was killed.")
            return
        message = json.loads(text)
        if "number" not in message and "failed" in message:
            self._lose(f"The slot failed: {message['failed']}")
        elif "number" not in message:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(message)
        elif (future := self._runs.pop(message["number"], None)) is not None and not future.done():
            if "failed" in message:
                future.set_exception(InfraError(f"The slot could not run a program: {message['failed']}"))
            else:
                future.set_result(Ended(message.get("status"), message["late"], message["cpu"], message.get("rss")))

    def _overdue(self, number: int) -> None:
        if number in self._runs:
            self._lose("The slot did not end a program within a second.")

    def _lose(self, why: str) -> None:
        """It is of no use any more: have it killed, and tell all who wait."""
        if self.lost:
            return
        self.lost = True
        self.detach()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        error = SlotLost(f"{why} Open a new box.")
        waiting: list[asyncio.Future[Any]] = [*self._runs.values()]
        if self._answer is not None:
            waiting.append(self._answer)
        self._runs.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)


def interpreter_folders() -> list[str]:
    """What of the host the box's Python needs, beside the system's folders."""
    prefix = os.path.realpath(sys.base_prefix)
    return [] if prefix in ("/", "/usr") else list(dict.fromkeys([sys.base_prefix, prefix]))


def _interpreter() -> str:
    """The one that runs us, outside its virtual environment."""
    plain = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return str(plain) if plain.exists() else sys.executable


def _python3() -> str:
    """What `python3` is in the box."""
    plain = Path(sys.base_prefix, "bin", "python3")
    return str(plain) if plain.exists() else _interpreter()


def _config(make: Make, number: int) -> dict[str, Any]:
    machine = os.uname().machine
    filters = {str(on): seccomp.program(machine, loopback=on).hex() for on in (False, True)}
    return {
        "uid": _outside_uid(number) if os.getuid() == 0 else None,
        "image": None if make.image is None else str(make.image),
        "workdir": make.workdir,
        "folders": make.folders,
        "prefixes": interpreter_folders(),
        "filters": filters,
        "python": _python3(),
        "paths": site.getsitepackages([sys.base_prefix]),
    }


def _outside_uid(number: int) -> int:
    """A uid that no other slot of ours has; nobody's where our own namespace has no more than that."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= OUTSIDE_UID and first + count >= OUTSIDE_UID + (1 << 24):
            return OUTSIDE_UID + (os.getpid() * 256 + number % 256) % (1 << 24)
    return 65534


def _hear_start(control: socket.socket) -> dict[str, Any]:
    text = control.recv(_MESSAGE_BYTES)
    message: dict[str, Any] = json.loads(text) if text else {"failed": "it ended without a word"}
    if "failed" in message:
        raise InfraError(f"A slot did not start: {message['failed']}")
    return message


def _looked_at(future: asyncio.Future[Ended]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not future.cancelled():
        future.exception()
