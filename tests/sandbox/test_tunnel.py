"""Tunnels between this machine and boxes with a loopback, and what strangers make of their end of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from backends import usable

from envkit.errors import InfraError, UsageError
from envkit.sandbox import ExecLimits, Sandbox, SandboxSpec
from envkit.sandbox.tunnel import Link, tunnel
from envkit.sandbox.tunnel_inside import CLOSE, CREDIT, DATA, END, FRAME, OPEN, PORT, READY, WINDOW

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MB = 1_000_000
LONG = ExecLimits(wall=60, cpu=60)


@pytest.fixture(params=["slot", "docker"])
async def box(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    backend = await usable(request.param)
    async with await backend.start(SandboxSpec(network="loopback")) as box:
        yield box
    await backend.close()


@pytest.fixture
async def slot() -> AsyncIterator[Sandbox]:
    """Where the backend makes no difference."""
    backend = await usable("slot")
    async with await backend.start(SandboxSpec(network="loopback")) as box:
        yield box
    await backend.close()


@asynccontextmanager
async def service(serve: Serve) -> AsyncIterator[int]:
    """A server of this machine, and its port."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only once all has been said."""
    writer.write(str(len(await reader.read(-1))).encode())


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * (1 << 16))
        await writer.drain()


CLIENT = """
import socket, sys, threading
def connect():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=50)
def all_of(stream):
    got = bytearray()
    while data := stream.recv(1 << 16):
        got += data
    return bytes(got)
def talk(said):
    with connect() as stream:
        sending = threading.Thread(target=lambda: (stream.sendall(said), stream.shutdown(socket.SHUT_WR)))
        sending.start()
        got = all_of(stream)
        sending.join()
    return got
"""

LARGE = CLIENT + "import os\nsaid = os.urandom(10_000_000)\nprint(talk(said) == said)"
FIFTY = CLIENT + (
    "from concurrent.futures import ThreadPoolExecutor\n"
    "open_first = [connect() for _ in range(50)]\n"
    "for n, stream in enumerate(open_first): stream.sendall(b'%d ' % n * 1000)\n"
    "for stream in open_first: stream.shutdown(socket.SHUT_WR)\n"
    "print([all_of(stream) for stream in open_first] == [b'%d ' % n * 1000 for n in range(50)])"
)


async def said_by(box: Sandbox, source: str, port: int) -> str:
    result = await box.exec(["python3", "-c", source, str(port)], limits=LONG)
    return (result.stdout + result.stderr[-500:]).decode().strip()


async def test_a_service_is_reached_by_large_bodies_fifty_connections_and_half_closed_ones(box: Sandbox) -> None:
    async with service(echo) as echoes, service(count) as counts:
        async with tunnel(box, "127.0.0.1", echoes) as port, tunnel(box, "127.0.0.1", counts) as other:
            large, fifty, half = await asyncio.gather(
                said_by(box, LARGE, port),
                said_by(box, FIFTY, port),
                said_by(box, CLIENT + "print(talk(b'x' * 3_000_000))", other),
            )
            assert (large, fifty, half) == ("True", "True", "b'3000000'")
            assert (await box.exec(["sleep", "30"], limits=ExecLimits(wall=0.3))).reason == "timeout"
            assert await said_by(box, CLIENT + "print(talk(b'on'))", port) == "b'on'"
            gone = port
        assert "refused" in await said_by(box, CLIENT + "connect()", gone)


async def test_a_box_closed_under_a_tunnel_closes_its_connections(box: Sandbox) -> None:
    held = asyncio.Event()
    ended = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        held.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    async with service(hold) as serving, tunnel(box, "127.0.0.1", serving) as port:
        client = await box.spawn(["python3", "-c", CLIENT + "all_of(connect())", str(port)], limits=LONG)
        await held.wait()
        await box.close()
        await ended.wait()
        with contextlib.suppress(InfraError):
            await client.wait()
    with pytest.raises(InfraError):
        async with tunnel(box, "127.0.0.1", serving):
            pass


async def test_one_that_is_cancelled_leaves_nothing_in_the_box(box: Sandbox) -> None:
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with tunnel(box, "127.0.0.1", 9) as port:
            begun.set_result(port)
            await asyncio.sleep(600)

    task = asyncio.create_task(hold())
    port = await begun
    assert "reset" in await said_by(box, CLIENT + "all_of(connect())", port)  # nobody serves there
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "refused" in await said_by(box, CLIENT + "connect()", port)


async def test_a_slow_reader_holds_nobody_else_up(slot: Sandbox) -> None:
    async with service(endless) as floods, service(echo) as echoes:
        async with tunnel(slot, "127.0.0.1", floods) as flood, tunnel(slot, "127.0.0.1", echoes) as port:
            before = _resident()
            idle = CLIENT + "kept = [connect() for _ in range(60)]\nprint('up', flush=True)\nall_of(connect())"
            slow = await slot.spawn(["python3", "-c", idle, str(flood)], limits=LONG)
            assert await slow.read() == b"up\n"
            assert await said_by(slot, CLIENT + "print(len(connect().recv(10, socket.MSG_WAITALL)))", flood) == "10"
            assert await said_by(slot, LARGE, port) == "True"
            assert _resident() - before < 100 * MB
            await slow.kill()


async def test_the_port_inside_can_be_chosen_once(slot: Sandbox) -> None:
    async with service(echo) as serving, tunnel(slot, "127.0.0.1", serving, inside=8080) as port:
        assert port == 8080
        with pytest.raises(InfraError, match="Address already in use"):
            async with tunnel(slot, "127.0.0.1", serving, inside=8080):
                pass
        assert await said_by(slot, CLIENT + "print(talk(b'one'))", 8080) == "b'one'"
    async with service(echo) as serving, tunnel(slot, "127.0.0.1", serving, inside=8080):
        assert await said_by(slot, CLIENT + "print(talk(b'two'))", 8080) == "b'two'"


async def test_a_box_without_a_network_has_none() -> None:
    backend = await usable("slot")
    async with await backend.start(SandboxSpec()) as box:
        with pytest.raises(UsageError, match="loopback"):
            async with tunnel(box, "127.0.0.1", 9):
                pass
    await backend.close()


def frame(kind: int, number: int = 0, body: bytes = b"") -> bytes:
    return FRAME.pack(kind, number, len(body)) + body


BEGUN = frame(READY, 0, PORT.pack(1))
FIRST = BEGUN + frame(OPEN, 1, PORT.pack(22))
STRANGE = {
    "frames of no kind": BEGUN + b"\xff" * 100_000,
    "more than the window": FIRST + frame(DATA, 1, b"x" * 32768) * (WINDOW // 32768 + 200),
    "more credit than was used": FIRST + frame(CREDIT, 1, b"\xff" * 4),
    "a number twice": FIRST + frame(CLOSE, 1) + frame(OPEN, 1),
    "data after the end": FIRST + frame(END, 1) + frame(DATA, 1, b"x"),
}
"""What a program in the place of ours may say, at which the tunnel ends."""


@pytest.mark.parametrize("what", STRANGE)
async def test_what_is_no_frame_of_ours_ends_the_tunnel_and_nothing_else(slot: Sandbox, what: str, stranger) -> None:
    await stranger(STRANGE[what])
    async with asyncio.timeout(30):
        link = await Link.listening(slot, 0, lambda _: asyncio.Event().wait())
        while not link.over:
            await asyncio.sleep(0.01)
    await link.close()
    assert (await slot.python("print(42)")).stdout == b"42\n"


async def test_connections_without_end_are_refused_and_take_no_memory(slot: Sandbox, stranger) -> None:
    """The numbers go on as the program in the box would count them, and nobody there reads a thing."""
    at_once = most = 0

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await reader.read()
        at_once -= 1

    await stranger(BEGUN + b"".join(frame(OPEN, n, PORT.pack(22)) for n in range(1, 50_000)))
    before = _resident()
    async with service(serve) as serving, tunnel(slot, "127.0.0.1", serving):
        while not most:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert most <= 256
        assert _resident() - before < 50 * MB


async def test_words_in_place_of_a_tunnel_are_told(slot: Sandbox, stranger) -> None:
    await stranger(b"there is no python here\n", "raise SystemExit")
    with pytest.raises(InfraError, match="there is no python here"):
        async with tunnel(slot, "127.0.0.1", 9):
            pass


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slot: Sandbox):
    """Has a program that says these bytes run in place of ours."""

    async def plant(said: bytes, then: str = "time.sleep(600)"):
        await slot.write("/tmp/said", said)
        program = (
            "import os, time\nsaid = open('/tmp/said', 'rb').read()\nwhile said: said = said[os.write(1, said):]\n"
        )
        (tmp_path / "inside.py").write_text(program + then)
        monkeypatch.setattr("envkit.sandbox.tunnel.INSIDE", tmp_path / "inside.py")

    return plant


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
