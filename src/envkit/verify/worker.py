"""What runs in the processes of `Workers`: a template, which only forks, kills and reaps, and workers, which do jobs.

The template has no threads, so that its forks are sound, and the workers' sockets are closed in it, so that a worker's
end is the end of its socket. `python -c BOOT PATH TOLD`, with the socket as its standard input, starts either.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

FRAME = struct.Struct("!I")
"""The length before each JSON message between host and worker."""

ORDER = struct.Struct("!cI")
"""What the host tells the template: F, fork a worker for the socket that comes along, or E, end it; and its number."""

OUT_OF_MEMORY, NOT_STARTED = 77, 78
"""Exit statuses that have a meaning of their own."""

CPU_SLACK = 10.0
"""Seconds between a job's deadline and the processor time at which the kernel ends its worker."""

TRACE_LENGTH = 4000
PR_SET_PDEATHSIG = 1


def boot() -> None:
    """The entry of both: take the socket from the standard input, and play the role that the host has told."""
    told: Mapping[str, Any] = json.loads(sys.argv[2])
    if sys.platform == "win32":
        channel = socket.fromshare(sys.stdin.buffer.read())
    else:
        channel = socket.socket(fileno=os.dup(0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _die_with(told["host"])
    if told["role"] == "template":
        _template(channel, told["preload"], told["memory"])
    else:
        _confine(told["memory"])
        _import(told["preload"])
        _serve(channel)


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def _die_with(parent: int) -> None:
    """Linux: be killed when the parent ends, however it ends. Elsewhere the end of the socket has to tell."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(NOT_STARTED)  # it ended before this was asked for


# The template.


def _template(channel: socket.socket, preload: Sequence[str], memory_bytes: int) -> NoReturn:
    def say(told: object) -> None:
        channel.sendall(json.dumps(told).encode() + b"\n")

    processes: dict[int, int] = {}
    try:
        _import(preload)
        gc.collect()
        gc.freeze()  # a collection in a worker would write to, and so copy, every page of the modules
        say({"ready": True})
        while True:
            order, sockets, _, _ = socket.recv_fds(channel, ORDER.size, 1)
            if len(order) < ORDER.size:
                break
            kind, number = ORDER.unpack(order)
            if kind == b"F":
                processes[number] = _fork(channel, sockets[0], memory_bytes)
            else:
                say({"ended": number, "status": _kill(processes.pop(number))})
    except BaseException:  # noqa: BLE001 - told, where the host still listens; then over, whatever it is
        with suppress(OSError):
            say(traceback.format_exc()[-TRACE_LENGTH:])
    finally:
        for process in processes.values():
            _kill(process)
        os._exit(0)


def _fork(channel: socket.socket, descriptor: int, memory_bytes: int) -> int:
    """A worker at that socket; 0 where the system refuses one, whose socket then ends at once."""
    template = os.getpid()
    try:
        process = os.fork()
    except OSError:
        process = 0
        os.close(descriptor)
        return process
    if process == 0:
        try:
            channel.close()
            _die_with(template)
            os.setpgid(0, 0)
            _confine(memory_bytes)
            _serve(socket.socket(fileno=descriptor))
        finally:
            os._exit(NOT_STARTED)
    os.close(descriptor)
    with suppress(OSError):  # by both, so that the group is there before either goes on
        os.setpgid(process, process)
    return process


def _kill(process: int) -> int:
    """Kill a worker with what it has started, and reap it. Nobody else reaps, so the number cannot be another's."""
    if not process:
        return NOT_STARTED
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


# The worker.


def _confine(memory_bytes: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(ValueError, OSError):  # macOS does not limit address space
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _limit_cpu(seconds: float) -> None:
    """The second guard behind the host's deadline, should the host not be there to keep it.

    The kernel holds ticks against the limit, not what `getrusage` says: they come to a few per cent more or less of
    all that the worker has ever used. So the limit is well above: what runs into it has surely run past its deadline.
    """
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        with suppress(ValueError, OSError):
            most = 1.5 * (used.ru_utime + used.ru_stime) + seconds + CPU_SLACK
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(most), hard))


def _serve(channel: socket.socket) -> NoReturn:
    try:
        while request := _receive(channel):
            answer = _work(channel, json.loads(request))
            channel.sendall(FRAME.pack(len(answer)) + answer)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except OSError:
        pass  # the host is gone
    os._exit(0)


def _receive(channel: socket.socket) -> bytes:
    """The next message; empty at the end of the socket."""
    (length,) = FRAME.unpack(_exactly(channel, FRAME.size) or FRAME.pack(0))
    return _exactly(channel, length)


def _exactly(channel: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = channel.recv(length - len(received))
        if not part:
            return b""
        received += part
    return bytes(received)


def _work(channel: socket.socket, job: Mapping[str, Any]) -> bytes:
    try:
        module, _, name = str(job["function"]).partition(":")
        function = getattr(importlib.import_module(module), name)
        _limit_cpu(job["seconds"])
        started = b'{"started": true}'
        channel.sendall(FRAME.pack(len(started)) + started)
        return json.dumps({"value": function(*job["args"])}).encode()
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 - a job's SystemExit is its failure too
        raised = "".join(traceback.format_exception_only(error)).strip()
        return json.dumps({"raised": raised[:TRACE_LENGTH], "trace": traceback.format_exc()[-TRACE_LENGTH:]}).encode()
