"""Connections between this machine and the loopback of a box, over the pipes of one program that is spawned in the box.

    a program in the box ──127.0.0.1──> tunnel_inside.py ══frames over stdin and stdout══> `Link` ──> one host and port

The box needs no network but its own loopback, and reaches nothing but what the `Link` was made for. Its end of the
tunnel is in the hands of strangers: whatever it sends, a bounded amount of it is held, and at worst the tunnel ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import MiB, Process, Sandbox
from envkit.sandbox.pool import outlast
from envkit.sandbox.tunnel_inside import (
    CHUNK,
    CLOSE,
    COUNT,
    CREDIT,
    DATA,
    END,
    FAILED,
    FRAME,
    MOST,
    OPEN,
    PORT,
    READY,
    WINDOW,
)

INSIDE = Path(__file__).with_name("tunnel_inside.py")

START_SECONDS = 60.0
"""For a Python to start in the box, on a busy machine."""
CONNECT_SECONDS = 30.0
CLOSE_SECONDS = 5.0

PROCESSES = 4
"""For the program in the box, which is one, and the shell that may start it."""

SAID = 300
"""Bytes that are told of what the box says in place of a tunnel."""

QUEUED = 32
"""Frames that wait for the pipe into the box."""

AT_ONCE = 2 * MOST
"""Connections that a box may open, with those that are still being closed; further ones are closed at once."""

Accept = Callable[["Connection"], Awaitable[None]]
"""What is done with a connection that a program of the box has made; it is closed afterwards."""


@asynccontextmanager
async def tunnel(box: Sandbox, host: str, port: int, *, inside: int = 0) -> AsyncGenerator[int]:
    """Inside the box, 127.0.0.1 at the port that is yielded leads to `host:port` as this machine reaches it.

    `inside` is that port, 0 any free one. UsageError for a box without a network of its own, InfraError where no
    tunnel can be begun. Programs of the box may end their end of it; then its connections are closed, and no more come.
    """

    async def accept(connection: Connection) -> None:
        with suppress(OSError):  # a service that cannot be reached is a connection that closes
            async with asyncio.timeout(CONNECT_SECONDS):
                streams = await asyncio.open_connection(host, port)
            await carry(connection, *streams)

    link = await Link.listening(box, inside, accept)
    try:
        yield link.port
    finally:
        await link.close()


async def carry(connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until both have ended, or either is lost: then both are."""

    async def out() -> None:
        while data := await connection.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def back() -> None:
        while data := await reader.read(CHUNK):
            await connection.write(data)
        await connection.end()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(out())
            group.create_task(back())
    except* OSError:
        writer.transport.abort()
    finally:
        writer.close()


class Connection:
    """One connection through a tunnel. ConnectionError where the other end, or the tunnel, is gone."""

    def __init__(self, link: Link, number: int) -> None:
        self._link, self.number = link, number
        self._unread = bytearray()
        self._at_end = self._said_end = self._lost = False
        self._credit, self._room, self._taken = WINDOW, WINDOW, 0
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        """What has come since, at least one byte; b"" at its end."""
        while not self._unread and not self._at_end:
            await self._change()
        data = bytes(self._unread)
        self._unread.clear()
        self._taken += len(data)
        if self._taken >= WINDOW // 2 and not self._at_end:
            self._room, taken, self._taken = self._room + self._taken, self._taken, 0
            await self._link.send(CREDIT, self.number, COUNT.pack(taken))
        return data

    async def write(self, data: bytes) -> None:
        """Send it, as fast as the other end reads."""
        view = memoryview(data)
        while view:
            while not self._credit:
                await self._change()
            piece = bytes(view[: min(CHUNK, self._credit)])
            self._credit -= len(piece)
            view = view[len(piece) :]
            await self._link.send(DATA, self.number, piece)

    async def end(self) -> None:
        """Say that no more is written; the other end may go on."""
        self._said_end = True
        await self._link.send(END, self.number)

    @property
    def done(self) -> bool:
        """Whether both ends have said all."""
        return self._said_end and self._at_end

    def take(self, kind: int, body: bytes) -> None:
        """A frame from the box."""
        if kind == DATA and not self._at_end and len(body) <= self._room:
            self._room -= len(body)
            self._unread += body
        elif kind == END:
            self._at_end = True
        elif kind == CREDIT and len(body) == COUNT.size and self._credit + COUNT.unpack(body)[0] <= WINDOW:
            self._credit += COUNT.unpack(body)[0]
        else:
            raise _Garbage(f"a frame of kind {kind} that was not due")
        self._changed.set()

    def lose(self) -> None:
        """It was closed without its end having come."""
        self._lost = True
        self._changed.set()

    async def _change(self) -> None:
        if self._lost:
            raise ConnectionResetError("The other end of the connection is gone.")
        self._changed.clear()
        await self._changed.wait()


class Link:
    """The host's end: `accept` gets each connection that is made in the box, `connect` makes one to a port of it."""

    def __init__(self, process: Process, accept: Accept | None) -> None:
        loop = asyncio.get_running_loop()
        self.port = 0
        self.over = False
        self._process, self._accept = process, accept
        self._connections: dict[int, Connection] = {}
        self._accepted: set[asyncio.Task[None]] = set()
        self._number = 0
        self._heard = bytearray()
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(QUEUED)
        self._ready: asyncio.Future[int] = loop.create_future()
        self._to_end = asyncio.Event()
        self._running = loop.create_task(self._run())

    @classmethod
    async def listening(cls, box: Sandbox, port: int, accept: Accept) -> Link:
        """For what connects to 127.0.0.1 at this port of the box, or for 0 at any free one, which is then `port`."""
        return await cls._start(box, accept, "listen", str(port))

    @classmethod
    async def connecting(cls, box: Sandbox) -> Link:
        """For connections to ports of the box."""
        return await cls._start(box, None, "connect")

    @classmethod
    async def _start(cls, box: Sandbox, accept: Accept | None, *words: str) -> Link:
        spec = box.spec
        if spec.network == "none":
            raise UsageError("A box without any network has no tunnels: say SandboxSpec(network='loopback').")
        most = {"wall": spec.lifetime, "cpu": spec.lifetime, "pids": PROCESSES, "output": MiB}
        argv = ["python3", "-I", "-S", "-c", INSIDE.read_text(), *words]
        link = cls(await box.spawn(argv, limits=spec.limits.model_copy(update=most)), accept)
        try:
            async with asyncio.timeout(START_SECONDS):
                link.port = await link._ready
        except TimeoutError:
            await link.close()
            raise InfraError(f"A tunnel did not begin in {START_SECONDS:g} s.") from None
        except BaseException:
            await link.close()
            raise
        return link

    async def connect(self, port: int) -> Connection:
        """Connect to 127.0.0.1 at this port of the box; what nobody accepts there is a connection that is lost."""
        self._number += 1
        connection = self._connections[self._number] = Connection(self, self._number)
        await self.send(OPEN, connection.number, PORT.pack(port))
        return connection

    async def drop(self, connection: Connection) -> None:
        """The connection is of no more use: the other end is told so, unless all has been said."""
        if self._connections.pop(connection.number, None) is not None and not connection.done:
            with suppress(ConnectionError):
                await self.send(CLOSE, connection.number)

    async def send(self, kind: int, number: int, body: bytes = b"") -> None:
        """Have a frame sent, whole, as soon as there is room for it. ConnectionError where the tunnel has ended."""
        if self.over:
            raise ConnectionResetError("The tunnel has ended.")
        await self._outgoing.put(FRAME.pack(kind, number, len(body)) + body)

    async def close(self) -> None:
        """End its program and every connection."""
        self._to_end.set()
        await outlast(self._running, CLOSE_SECONDS)
        if self._running.done():
            self._running.result()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        hearing, speaking = loop.create_task(self._hear()), loop.create_task(self._speak())
        told = loop.create_task(self._to_end.wait())
        try:
            await asyncio.wait({hearing, speaking, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.over = True
            for connection in self._connections.values():
                connection.lose()
            ending = {hearing, speaking, told, *self._accepted}
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)
            with suppress(InfraError):  # it is gone with its box
                await self._process.kill()
        for task in (hearing, speaking):
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, (_Garbage, InfraError)):  # which are the box's doing
                raise error
        if not self._ready.done():
            said = self._heard[:SAID].decode("utf-8", "replace")
            self._ready.set_exception(InfraError(f"A tunnel did not begin in the box, which needs a python3: {said!a}"))

    async def _speak(self) -> None:
        while True:
            await self._process.write(await self._outgoing.get())

    async def _hear(self) -> None:
        heard = self._heard
        while data := await self._process.read():
            heard += data
            start = 0
            while len(heard) - start >= FRAME.size:
                kind, number, length = FRAME.unpack_from(heard, start)
                body = start + FRAME.size
                if len(heard) < body + length:
                    break
                start = body + length
                await self._take(kind, number, bytes(heard[body:start]))
            del heard[:start]

    async def _take(self, kind: int, number: int, body: bytes) -> None:
        if not self._ready.done():
            self._begin(kind, body)
        elif kind == OPEN:
            await self._open(number)
        elif kind not in (DATA, END, CLOSE, CREDIT) or number > self._number:
            raise _Garbage("no frame of ours")
        elif (connection := self._connections.get(number)) is None:
            pass  # it was closed here while this was on its way
        elif kind == CLOSE:
            del self._connections[number]
            connection.lose()
        else:
            connection.take(kind, body)

    def _begin(self, kind: int, body: bytes) -> None:
        if kind == FAILED:
            said = body.decode("utf-8", "replace")
            self._ready.set_exception(InfraError(f"A tunnel cannot begin in the box: {said!a}"))
        elif kind == READY and len(body) == PORT.size:
            self._ready.set_result(PORT.unpack(body)[0])
        else:
            raise _Garbage("no frame of ours")

    async def _open(self, number: int) -> None:
        if self._accept is None or number <= self._number:
            raise _Garbage("a connection that was not due")
        self._number = number
        if len(self._accepted) >= AT_ONCE:
            await self.send(CLOSE, number)
            return
        connection = self._connections[number] = Connection(self, number)
        task = asyncio.get_running_loop().create_task(self._serve(self._accept, connection))
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)

    async def _serve(self, accept: Accept, connection: Connection) -> None:
        try:
            await accept(connection)
        finally:
            await self.drop(connection)


class _Garbage(Exception):
    """What speaks in the box is not our program."""
