"""Who an `Allow` lets a box reach, whatever the box asks for and whatever names lead to."""

from __future__ import annotations

import asyncio
import socket

import pytest

from envkit.errors import UsageError
from envkit.sandbox.proxy import Allowed, Proxy, parse


class Asking:
    """A box's end of a connection: says one thing, and keeps the answer."""

    def __init__(self, said: bytes) -> None:
        self.said, self.answer = said, b""

    async def read(self) -> bytes:
        said, self.said = self.said, b""
        return said

    async def write(self, data: bytes) -> None:
        self.answer += data

    async def end(self) -> None:
        pass


async def answer(hosts: tuple[str, ...], said: str) -> str:
    asking = Asking(said.encode("utf-8", "surrogateescape"))
    await Proxy(hosts)(asking)  # pyright: ignore[reportArgumentType]
    return asking.answer.decode()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, list[str]], list[str]]:
    """What names lead to, and which of them were looked up."""
    leads_to: dict[str, list[str]] = {}
    asked: list[str] = []

    async def found(_: object, host: str, port: int, **__: object) -> list[object]:
        asked.append(host)
        if host not in leads_to:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in leads_to[host]]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", found)
    return leads_to, asked


async def test_a_name_that_is_not_allowed_is_not_even_looked_up(names) -> None:
    for target in (
        "secret.evil.example:443",
        "notpypi.org:443",
        "pypi.org.evil.example:443",
        "2130706433:80",
        "0x7f.1:80",
    ):
        assert "403 Forbidden" in await answer(("pypi.org",), f"CONNECT {target} HTTP/1.1\r\n\r\n")
    assert "403 Forbidden" in await answer(("pypi.org:443",), "CONNECT pypi.org:80 HTTP/1.1\r\n\r\n")
    assert names[1] == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1",
     "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::"],
)  # fmt: skip
async def test_no_name_leads_to_this_machine_or_its_network(names, address: str) -> None:
    names[0]["pypi.org"] = [address]
    told = await answer(("pypi.org",), "CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
    assert told.startswith("HTTP/1.1 502 ")
    assert f"{address} is no public address" in told


async def test_an_address_that_is_allowed_itself_may_be_led_to(names) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ours: " + await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, sock=socket.create_server(("127.0.0.1", 0)))
    port = server.sockets[0].getsockname()[1]
    names[0].update({"inner.example": ["10.0.0.1", "127.0.0.1"], "127.0.0.1": ["127.0.0.1"]})
    hosts = ("Inner.Example.", f"127.0.0.1:{port}")
    asked = (
        f"GET http://me:word@INNER.example:{port}/x HTTP/1.1\r\nHost: other\r\nConnection: keep-alive\r\nA: 1\r\n\r\n"
    )
    told = await answer(hosts, asked)
    assert told == f"ours: GET /x HTTP/1.1\r\nHost: INNER.example:{port}\r\nConnection: close\r\nA: 1\r\n\r\n"
    assert "ours: on" in await answer(hosts, f"CONNECT [::ffff:127.0.0.1]:{port} HTTP/1.1\r\n\r\non\r\n\r\n")
    server.close()


@pytest.mark.parametrize(
    "said",
    ["", "GET", "GET / HTTP/1.1\r\n\r\n", "GET ftp://pypi.org/ HTTP/1.1\r\n\r\n", "CONNECT pypi.org HTTP/1.1\r\n\r\n",
     "CONNECT pypi.org:port HTTP/1.1\r\n\r\n", "CONNECT pypi.org:99999 HTTP/1.1\r\n\r\n", "\udcff\udcfe\r\n\r\n",
     "GET http:// HTTP/1.1\r\n\r\n", "GET http://[::1 HTTP/1.1\r\n\r\n", "GET http://pypi.org/ SPDY\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_request_is_told_so(names, said: str) -> None:
    assert (await answer(("pypi.org",), said)).startswith("HTTP/1.1 400 ")
    assert names[1] == []


def test_a_host_is_a_name_or_an_address_with_or_without_a_port() -> None:
    found = [
        parse(host)
        for host in ("PyPI.org", "pypi.org.:443", "10.0.0.7", "10.0.0.7:80", "::1", "[::1]:80", "bücher.example")
    ]
    assert found == [
        Allowed("pypi.org", None),
        Allowed("pypi.org", 443),
        Allowed("10.0.0.7", None),
        Allowed("10.0.0.7", 80),
        Allowed("::1", None),
        Allowed("::1", 80),
        Allowed("xn--bcher-kva.example", None),
    ]
    for host in ("", "http://a", "a/b", "a b", "me@a", "a:x", "a:99999", "*.example.org"):
        with pytest.raises(UsageError, match="is no host"):
            parse(host)
