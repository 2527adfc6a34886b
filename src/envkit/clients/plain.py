"""The shortest way to a server on plain `http://`: kept connections, one request at a time on each.

A response is read whole. An aiohttp request costs four times the processor time and twice the memory, which is most
of what a rollout of one call costs; TLS, proxies, redirects and streams are aiohttp's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import cast
from urllib.parse import urlsplit

import httptools

KEPT_FOR = 15.0
"""Seconds that an idle connection is used again; servers drop theirs not much later."""
ADDRESSES_FOR = 10.0
"""Seconds before a host's name is looked up again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response; `retry_after` is the header as it came."""

    status: int
    retry_after: str | None
    content: bytes


class PlainHTTP:
    """Posts to one `http://` URL, over as many connections as there are requests at once.

    OSError where the connection fails or what answers does not speak HTTP; TimeoutError after `connect` seconds
    without a connection, or `within` seconds without the whole response. To be used in one event loop.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, connect: float, within: float | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._connect, self._within = connect, within
        fields = {"Host": parts.netloc, "Accept": "*/*", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._head = f"POST {parts.path or '/'} HTTP/1.1\r\n{lines}Content-Length: ".encode()
        self._idle: list[tuple[_Connection, float]] = []
        self._all: set[_Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._addresses: asyncio.Future[list[str]] | None = None

    def post(self, body: bytes) -> Awaitable[Reply]:
        """The response to this body. Cancelled, it drops its connection."""
        return self._exchange(body) if self._within is None else self._in_time(body, self._within)

    async def close(self) -> None:
        """Drop all connections."""
        for connection in list(self._all):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop closes the sockets in its next round

    async def _in_time(self, body: bytes, seconds: float) -> Reply:
        async with asyncio.timeout(seconds):
            return await self._exchange(body)

    async def _exchange(self, body: bytes) -> Reply:
        connection = self._kept() or await self._connected()
        try:
            reply = await connection.exchange(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._idle.append((connection, monotonic()))
        else:
            connection.close()
        return reply

    def _kept(self) -> _Connection | None:
        """The connection that was used last, so that the oldest may go."""
        while self._idle:
            connection, since = self._idle.pop()
            if connection.reusable and monotonic() - since < KEPT_FOR:
                return connection
            connection.close()
        return None

    async def _connected(self) -> _Connection:
        async with asyncio.timeout(self._connect):
            error: OSError | None = None
            for address in await self._looked_up():
                try:
                    _, connection = await self._loop.create_connection(
                        lambda: _Connection(self._all, self._loop), address, self._port
                    )
                except OSError as refused:
                    error = error or refused
                else:
                    return connection
            raise error or OSError(f"{self._host} has no address")

    async def _looked_up(self) -> list[str]:
        """The host's addresses; asked once for all who wait."""
        if self._addresses is None:
            self._addresses = asyncio.ensure_future(self._addresses_of_host())
            self._loop.call_later(ADDRESSES_FOR, self._forget_addresses)
        try:
            return await asyncio.shield(self._addresses)
        except OSError:
            self._addresses = None
            raise

    async def _addresses_of_host(self) -> list[str]:
        found = await self._loop.getaddrinfo(self._host, self._port, type=1)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _forget_addresses(self) -> None:
        self._addresses = None


class _Connection(asyncio.Protocol):
    """One connection. `exchange` is for one request at a time."""

    __slots__ = ("_answer", "_body", "_ends_with_connection", "_everyone", "_loop", "_parser", "_retry_after", "_sized",
                 "_transport", "reusable")  # fmt: skip
    _transport: asyncio.Transport

    def __init__(self, everyone: set[_Connection], loop: asyncio.AbstractEventLoop) -> None:
        self.reusable = True
        self._loop = loop
        self._everyone = everyone
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Reply] | None = None
        self._ends_with_connection = False

    def exchange(self, request: bytes) -> asyncio.Future[Reply]:
        """Send a request; its whole response, when that is there."""
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._everyone.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.close()  # nobody asked: it would be taken for the next request's answer
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"what answers does not speak HTTP ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._everyone.discard(self)
        if exc is None and self._ends_with_connection:
            self.on_message_complete()
        else:
            self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the server hung up"))

    def on_message_begin(self) -> None:
        if self._answer is None:
            self.reusable = False  # more than was asked for
        self._body: list[bytes] = []
        self._retry_after: str | None = None
        self._sized = False

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-length" | b"transfer-encoding":
                self._sized = True
            case b"retry-after":
                self._retry_after = value.decode("latin-1")
            case _:
                pass

    def on_headers_complete(self) -> None:
        self._ends_with_connection = not self._sized
        if not self._parser.should_keep_alive():
            self.reusable = False

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._ends_with_connection = False
        status = self._parser.get_status_code()
        if status >= 200:  # below, the response follows
            answer, self._answer = self._answer, None
            if answer is not None and not answer.done():
                answer.set_result(Reply(status, self._retry_after, b"".join(self._body)))
        self._body = []

    def _fail(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
