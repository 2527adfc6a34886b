"""One execution inside a slot: the warden of its pid namespace, and the process that becomes the program.

The program's process gives up everything before it reads a byte of what it is to run. The standard library only.
"""

from __future__ import annotations

import marshal
import os
import resource
import signal
import struct
from typing import Any, NoReturn

from . import files, kernel, root, warm

FAILED = b"!"
"""Starts what a warden says where the sandbox and not the program failed."""

OPEN_FILES = 4096
NO_SUCH_PROGRAM, NOT_EXECUTABLE = 127, 126
"""As shells have it."""


class Programs:
    """What init has ready for its forks: seccomp filters, and the Landlock rules of the open box."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._folders = root.own_folders(config)
        self._filters = {
            loopback: kernel.Filter(bytes.fromhex(config["filters"][str(loopback)])) for loopback in (False, True)
        }
        self.paths: list[str] = config["paths"]
        self.filter = self._filters[False]
        self.landlock: int | None = None
        warm.prepare(config["python"], self.paths)

    def open(self, *, loopback: bool) -> None:
        self.filter = self._filters[loopback]
        if loopback:
            kernel.loopback_up()
        self.landlock = kernel.landlock(self._folders, "/dev")

    def close(self) -> None:
        if self.landlock is not None:
            os.close(self.landlock)
            self.landlock = None


def become_warden(programs: Programs, message: dict[str, Any], fds: list[int], status: int) -> NoReturn:
    """Start the program, take in orphans, say how it ended, and by ending end all that is left of it.

    `fds` are the request, stdin, stdout, stderr, and the `cgroup.procs` files to join.
    """
    try:
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
        kernel.mount("proc", "/proc", "proc", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        program = os.fork()
    except BaseException as error:  # noqa: BLE001 - the supervisor raises it
        _fail(status, error)
    if not program:
        _become_program(programs, message, fds, status)
    for fd in fds:
        os.close(fd)
    while True:
        ended, code, usage = os.wait4(-1, 0)
        if ended == program:
            break
    os.write(status, struct.pack("=i q", code, usage.ru_maxrss * 1024))
    os._exit(0)


def _become_program(programs: Programs, message: dict[str, Any], fds: list[int], status: int) -> NoReturn:
    try:
        for cgroup in fds[4:]:
            os.write(cgroup, b"0")
        os.setsid()
        _limit(message)
        _give_up(programs)
        request, source = _request(fds[0])
        for number in range(3):
            os.dup2(fds[number + 1], number)
    except BaseException as error:  # noqa: BLE001 - the supervisor raises it
        _fail(status, error)
    os.closerange(3, 1 << 20)
    match request["kind"]:
        case "exec":
            _become(request)
        case "python":
            warm.run(request, source)
        case kind:
            files.run(kind, request)


def _limit(message: dict[str, Any]) -> None:
    for number, value in message["rlimits"]:
        hard = resource.getrlimit(number)[1]
        grace = 0
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        elif number == resource.RLIMIT_CPU:
            grace = 1  # second between SIGXCPU and SIGKILL
        resource.setrlimit(number, (value, value + grace))


def _give_up(programs: Programs) -> None:
    """Capabilities, the file system outside the box's own, the rest of the kernel. init gave up regaining any."""
    kernel.drop_capabilities()
    if programs.landlock is not None:
        kernel.landlock_restrict(programs.landlock)
    programs.filter.install()
    kernel.set_dumpable(True)  # or the program cannot open its own /proc/self/fd


def _request(fd: int) -> tuple[dict[str, Any], bytes]:
    """What is to be run, and the bytes that go with it."""
    size, data = os.fstat(fd).st_size, b""
    while len(data) < size:
        data += os.pread(fd, size, len(data))
    return marshal.loads(data)


def _become(request: dict[str, Any]) -> NoReturn:
    argv = [os.fsencode(word) for word in request["argv"]]
    environment = {os.fsencode(name): os.fsencode(value) for name, value in request["env"].items()}
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    code = NO_SUCH_PROGRAM
    try:
        os.chdir(request["cwd"])
        os.execvpe(argv[0], argv, environment)
    except (FileNotFoundError, NotADirectoryError) as error:
        complaint = f"{error.strerror}: {request['argv'][0] if error.filename is None else error.filename!r}"
        if error.filename != request["cwd"]:
            complaint = f"There is no program {request['argv'][0]!r} in the box"
    except (OSError, ValueError) as error:
        code, complaint = NOT_EXECUTABLE, f"{request['argv'][0]!r} cannot be run: {error}"
    os.write(2, complaint.encode(errors="backslashreplace") + b"\n")
    os._exit(code)


def _fail(status: int, error: BaseException) -> NoReturn:
    os.write(status, FAILED + f"{type(error).__name__}: {error}".encode()[:2000])
    os._exit(1)
