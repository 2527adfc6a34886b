"""The program inside a slot: pid 1 of its own namespaces, which starts executions and says how they ended.

    supervisor, on the host ──SOCK_SEQPACKET──> init: opens and closes boxes, forks wardens, keeps deadlines
                                                 └── warden: pid 1 of one execution's pid namespace
                                                      └── the program and whatever it starts

It is started by `python -I -S`, has an empty environment, and never sees a program's code, input, arguments or
variables: those travel in a sealed memory file and a pipe that only the execution's own process reads. The standard
library only.
"""

from __future__ import annotations

import gc
import json
import marshal
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from . import kernel, root
from .execution import FAILED, Programs, become_warden

UID = 1000
"""Who programs are in the box. Outside it is an unprivileged uid."""

MESSAGE_BYTES = 1 << 16
MOST_FDS = 16
NEVER = float("inf")

_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
_ENDED = struct.Struct("=i q")
_FD = struct.Struct("=i")
_FDS_SPACE = socket.CMSG_SPACE(MOST_FDS * _FD.size)


def main(fd: int) -> NoReturn:
    """Become a slot: the process that was started waits on the host's side, its child is init."""
    control = socket.socket(fileno=fd)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # pid 1 ignores what it does not handle
    try:
        config = json.loads(control.recv(MESSAGE_BYTES))
        kernel.die_with_parent(signal.SIGKILL)
        _isolate(config)
        kernel.die_with_parent(signal.SIGKILL)  # changing ids has made the kernel forget it
        programs = Programs(config)
        gc.collect()
        gc.freeze()  # no collector of a fork looks at what is there now, which writes to it
        pid = os.fork()
    except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor tells the person
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    if pid:
        control.send(json.dumps({"init": pid}).encode())
        control.close()
        os.waitpid(pid, 0)
        os._exit(0)
    kernel.die_with_parent(signal.SIGKILL)
    try:
        _serve(control, config, programs)
    except Exception as error:  # noqa: BLE001 - as above
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)


def _isolate(config: dict[str, Any]) -> None:
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # where the host runs out of memory, slots go before what uses them
    os.umask(0o022)
    folders = root.own_folders(config)
    build: dict[str, Any] = {"image": config["image"], "prefixes": config["prefixes"], "folders": folders, "uid": UID}
    outside = config["uid"]
    if outside is None:
        uid, gid = os.getuid(), os.getgid()
        kernel.unshare(_NAMESPACES)
        _map_ids(uid, gid)
        root.build(**build)
        root.seal()
    else:  # as root: the root is made with root's sight, and then locked to everyone in the namespaces
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))  # which nobody can raise later, where it was 0
        kernel.unshare(kernel.CLONE_NEWNS)
        root.build(**build)
        root.seal()
        os.setgroups([])
        os.setresgid(outside, outside, outside)
        os.setresuid(outside, outside, outside)
        kernel.set_dumpable(True)  # or our own /proc entries are root's
        kernel.unshare(_NAMESPACES)
        _map_ids(outside, outside)
    kernel.set_dumpable(False)


def _map_ids(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{UID} {uid} 1"), ("gid_map", f"{UID} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _serve(control: socket.socket, config: dict[str, Any], programs: Programs) -> NoReturn:
    socket.sethostname("box")
    kernel.mount("proc", "/proc", "proc", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.forgo_privileges()
    init = _Init(control, config, programs)
    control.send(b'{"ready": true}')
    while True:
        init.turn()


class _Execution:
    """`status` is where the warden says how the program ended."""

    def __init__(self, number: int, warden: int, status: int, deadline: float) -> None:
        self.number, self.warden, self.status, self.deadline = number, warden, status, deadline
        self.late = False
        self.said = bytearray()


class _Init:
    def __init__(self, control: socket.socket, config: dict[str, Any], programs: Programs) -> None:
        self._control = control
        self._folders = root.own_folders(config)
        self._programs = programs
        self._own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self._executions: dict[int, _Execution] = {}
        """By the descriptor of their status."""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._open = False

    def turn(self) -> None:
        """What is to be done after each event, or at the next deadline."""
        due = min((each.deadline for each in self._executions.values()), default=NEVER)
        pause = None if due == NEVER else max(0.0, due - time.monotonic()) * 1000 + 1
        for fd, _ in self._poll.poll(pause):
            if fd == self._control.fileno():
                self._hear()
            elif fd in self._executions:
                self._listen(self._executions[fd])
        now = time.monotonic()
        for each in self._executions.values():
            if each.deadline <= now:
                each.late, each.deadline = True, NEVER
                os.kill(each.warden, signal.SIGKILL)

    def _hear(self) -> None:
        text, ancillary, _, _ = self._control.recvmsg(MESSAGE_BYTES, _FDS_SPACE)
        fds = [fd for _, _, data in ancillary for (fd,) in _FD.iter_unpack(data)]
        if not text:
            os._exit(0)  # the supervisor is gone, and with us goes everything in the slot
        message = marshal.loads(text)
        match message["do"]:
            case "run":
                self._run(message, fds)
            case "kill":
                for each in self._executions.values():
                    if each.number == message["number"]:
                        os.kill(each.warden, signal.SIGKILL)
            case "open":
                self._close()
                root.box_files(self._folders, message)
                self._programs.open(loopback=message["loopback"])
                self._open = True
                self._say(opened=True)
            case "close":
                self._close()
                self._say(closed=True)
            case unknown:
                raise ValueError(f"There is nothing to do that is called {unknown!r}.")

    def _run(self, message: dict[str, Any], fds: list[int]) -> None:
        reading, writing = os.pipe()
        try:
            # The next fork is pid 1 of a namespace of its own, and its end is the end of all in it: the kernel sees to
            # that, and has no race with forks, as killing by group, by cgroup or by a list of processes has. It needs
            # no cgroup, and leaves what `spawn` started in other namespaces of the same box alone.
            kernel.unshare(kernel.CLONE_NEWPID)
            warden = os.fork()
            if not warden:
                become_warden(self._programs, message, fds, writing)
            kernel.setns(self._own_namespace, kernel.CLONE_NEWPID)
        finally:
            for fd in (*fds, writing):
                os.close(fd)
        deadline = time.monotonic() + message["wall"]
        self._executions[reading] = _Execution(message["number"], warden, reading, deadline)
        self._poll.register(reading, select.POLLIN)

    def _listen(self, execution: _Execution) -> None:
        said = os.read(execution.status, MESSAGE_BYTES)
        if said:
            execution.said += said
        else:
            self._end(execution)

    def _end(self, execution: _Execution) -> None:
        """The warden has ended or is about to; when it can be waited for, all of its namespace is gone."""
        del self._executions[execution.status]
        self._poll.unregister(execution.status)
        os.close(execution.status)
        _, _, usage = os.wait4(execution.warden, 0)
        said = bytes(execution.said)
        answer: dict[str, Any] = {
            "number": execution.number,
            "late": execution.late,
            "cpu": usage.ru_utime + usage.ru_stime,
        }
        if said.startswith(FAILED):
            answer["failed"] = said[len(FAILED) :].decode(errors="replace")
        elif len(said) == _ENDED.size:
            answer["status"], answer["rss"] = _ENDED.unpack(said)
        self._say(**answer)

    def _close(self) -> None:
        """End everything in the box and drop its files."""
        for each in list(self._executions.values()):
            os.kill(each.warden, signal.SIGKILL)
        for each in list(self._executions.values()):
            self._end(each)
        if self._open:
            self._open = False
            self._programs.close()
            root.drop_files(self._folders)

    def _say(self, **message: object) -> None:
        self._control.send(json.dumps(message).encode())


def started() -> NoReturn:
    """`sys.argv[1]` is the descriptor of the socket to the supervisor."""
    main(int(sys.argv[1]))
