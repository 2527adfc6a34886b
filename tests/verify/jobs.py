"""What the workers under test are given to do: honest work, and every way of going wrong that we know."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path


def echo(value: object) -> object:
    return value


def who() -> list[int]:
    """The worker and its template."""
    return [os.getpid(), os.getppid()]


def threads() -> int:
    return threading.active_count()


def mark(path: str) -> None:
    """Say who works, then work for ever."""
    Path(path).write_text(f"{os.getpid()} {os.getppid()}")
    spin()


def spin() -> None:
    while True:
        pass


def append(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text)


def hoard() -> int:
    held = []
    while True:
        held.append(bytes(1 << 24))


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def tire() -> None:
    """What the kernel does to a process that has used up its processor time."""
    os.kill(os.getpid(), signal.SIGXCPU)


def chatter() -> str:
    print("this is not for the host", flush=True)
    os.write(1, b"nor is this")
    return "done"


def shout(length: int) -> str:
    return "a" * length


def nested() -> object:
    deep: object = 1
    for _ in range(900):
        deep = [deep]
    return deep


def fail() -> None:
    raise ValueError("no such number")


def leave() -> None:
    raise SystemExit(4)


def _channel() -> int:
    """The descriptor of the socket to the host: hostile code can find it too."""
    for descriptor in range(3, 64):
        try:
            socket.socket(fileno=os.dup(descriptor)).close()
        except OSError:
            continue
        return descriptor
    raise AssertionError("no socket")


def garble(text: str) -> None:
    os.write(_channel(), text.encode("latin-1"))
    spin()


def hang_up() -> None:
    os.close(_channel())
    spin()


def bear() -> int:
    """Leave a child behind."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def bear_and_spin(path: str) -> None:
    append(path, str(bear()))
    spin()
