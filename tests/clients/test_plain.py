"""The short way to a server: what HTTP allows and what it does not, said by a server that writes raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from envkit import Endpoint, Message, ModelError
from envkit.clients.base import Request
from envkit.clients.http import HTTPClient
from envkit.clients.plain import PlainHTTP, Reply
from server import Server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Raw:
    """Answers request n of the whole server with the n-th of these byte strings; None hangs up, "" says nothing."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                for byte in answer.splitlines(keepends=True):
                    writer.write(byte)
                    await writer.drain()
                    await asyncio.sleep(0)
                if b"HTTP/1.0" in answer or b"Connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def plain(server: Raw, *, path: str = "/v1/x", within: float | None = 5.0) -> AsyncIterator[PlainHTTP]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = PlainHTTP(f"http://localhost:{port}{path}", {"X-Mine": "1"}, connect=5.0, within=within)
    try:
        yield client
    finally:
        await client.close()
        listening.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


async def test_one_connection_serves_one_request_after_another() -> None:
    server = Raw(OK, OK)
    async with plain(server) as client:
        assert await client.post(b"{}") == Reply(200, None, b"hi")
        assert await client.post(b"[1]") == Reply(200, None, b"hi")
        await until(lambda: server.open == 1)
    assert server.connections == 1
    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x HTTP/1.1\r\nHost: localhost:")
    assert b"\r\nX-Mine: 1\r\n" in head
    assert body == b"[1]"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi",
    ],
    ids=["chunked", "continue", "until the end", "close"],
)
async def test_each_way_to_say_where_a_body_ends(answer: bytes) -> None:
    server = Raw(answer, OK)
    async with plain(server) as client:
        assert (await client.post(b"{}")).content == b"hi"
        assert (await client.post(b"{}")).content == b"hi"


async def test_retry_after_and_the_status_are_told() -> None:
    async with plain(Raw(b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\nContent-Length: 0\r\n\r\n")) as client:
        assert await client.post(b"{}") == Reply(429, "7", b"")


@pytest.mark.parametrize(
    "answer",
    [None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhi", b"SSH-2.0-OpenSSH_9.2\r\n"],
    ids=["hung up", "cut short", "another protocol"],
)
async def test_what_is_no_response_is_an_oserror_and_the_next_request_works(answer: bytes | None) -> None:
    server = Raw(answer, OK)
    async with plain(server) as client:
        with pytest.raises(OSError, match=r"hung up|does not speak HTTP"):
            await client.post(b"{}")
        assert (await client.post(b"{}")).content == b"hi"
        assert server.connections == 2


async def test_a_connection_that_says_more_than_was_asked_is_not_used_again() -> None:
    server = Raw(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", OK)
    async with plain(server) as client:
        assert (await client.post(b"{}")).content == b"hi"
        await asyncio.sleep(0.05)
        assert (await client.post(b"{}")).content == b"hi"
        assert server.connections == 2


async def test_a_connection_that_the_server_dropped_is_not_used_again() -> None:
    server = Raw(OK, OK)
    async with plain(server) as client:
        await client.post(b"{}")
        (connection,) = client._all  # pyright: ignore[reportPrivateUsage]
        connection._transport.close()  # pyright: ignore[reportPrivateUsage]
        await until(lambda: server.open == 0)
        assert (await client.post(b"{}")).content == b"hi"


async def test_cancelled_or_too_late_it_drops_the_connection() -> None:
    server = Raw(b"", b"", OK)
    async with plain(server, within=0.2) as client:
        with pytest.raises(TimeoutError):
            await client.post(b"{}")
        await until(lambda: server.open == 0)
        asked = asyncio.create_task(client.post(b"{}"))
        await until(lambda: server.open == 1)
        asked.cancel()
        await until(lambda: server.open == 0)
        assert (await client.post(b"{}")).content == b"hi"


async def test_nobody_there_and_an_unknown_host_are_oserrors() -> None:
    for url in ("http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"):
        with pytest.raises(OSError):  # noqa: PT011 - the system's own words
            await PlainHTTP(url, {}, connect=5.0).post(b"{}")


async def test_a_redirect_is_followed() -> None:
    with Server(lambda _: "hello") as target:
        moved = (
            b"HTTP/1.1 307 Moved\r\nLocation: %b/chat/completions\r\nContent-Length: 0\r\n\r\n" % target.url.encode()
        )
        async with plain(Raw(moved, moved)) as raw:
            client = HTTPClient(Endpoint(url=f"http://127.0.0.1:{raw._port}/v1", model="m"))  # pyright: ignore[reportPrivateUsage]
            try:
                completion = await client.complete(Request(messages=(Message.user("hi"),)))
            finally:
                await client.close()
    assert completion.message.content == "hello"


async def test_a_url_that_is_not_ascii_is_still_asked() -> None:
    server = Raw(b"HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n")
    async with plain(server) as raw:
        client = HTTPClient(Endpoint(url=f"http://127.0.0.1:{raw._port}/\u03c0/v1", model="m"))  # pyright: ignore[reportPrivateUsage]
        try:
            with pytest.raises(ModelError, match="answered 404"):
                await client.complete(Request(messages=(Message.user("hi"),)))
        finally:
            await client.close()
    assert b"%CF%80" in server.requests[0].upper()
