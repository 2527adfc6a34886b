"""Each backend of the contract, or the reason why this machine lacks it; and a host that is worth attacking."""

from __future__ import annotations

import fcntl
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from backends import BACKENDS, usable

from envkit.sandbox import Backend, Sandbox, SandboxSpec

Start = Callable[..., Awaitable[Sandbox]]


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    backend = await usable(request.param)
    yield backend
    await backend.close()


@pytest.fixture
async def start(backend: Backend) -> AsyncIterator[Start]:
    """Boxes of the backend, closed at the end of the test."""
    boxes: list[Sandbox] = []

    async def one(**spec: object) -> Sandbox:
        boxes.append(await backend.start(SandboxSpec(**spec)))  # pyright: ignore[reportArgumentType]
        return boxes[-1]

    yield one
    for box in boxes:
        await box.close()


@pytest.fixture
async def box(start: Start) -> Sandbox:
    return await start()


CANARY = Path("/tmp/envkit-canary")


@pytest.fixture
def host() -> Iterator[list[str]]:
    """What the attacks look for on the host: a secret file, and servers that note whoever reaches them.

    Paths and ports are the attacks' own, so that only one test at a time may have them, whichever process runs it.
    """
    reached: list[str] = []
    with ExitStack() as stack:
        lock = stack.enter_context(open("/tmp/envkit-test-canary.lock", "w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        CANARY.mkdir(exist_ok=True)
        CANARY.chmod(0o755)
        stack.callback(shutil.rmtree, CANARY)
        (CANARY / "secret").write_text("CANARY_FILE_0123456789abcdef")
        (CANARY / "s.sock").unlink(missing_ok=True)
        for family, kind, address in (
            (socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 47999)),
            (socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 47998)),
            (socket.AF_UNIX, socket.SOCK_STREAM, "\0envkit-canary"),
            (socket.AF_UNIX, socket.SOCK_STREAM, str(CANARY / "s.sock")),
        ):
            server = stack.enter_context(socket.socket(family, kind))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
            server.settimeout(0.05)
            if kind == socket.SOCK_STREAM:
                server.listen()
            ended = threading.Event()
            thread = threading.Thread(target=_watch, args=(server, kind, ended, reached))
            thread.start()
            stack.callback(thread.join)
            stack.callback(ended.set)
        yield reached


def _watch(server: socket.socket, kind: int, ended: threading.Event, reached: list[str]) -> None:
    while not ended.is_set():
        with suppress(TimeoutError):
            reached.append(str(server.recvfrom(100) if kind == socket.SOCK_DGRAM else server.accept()))
