"""The HTTP proxy of an `Allow`, on this side of a tunnel: who is reached through it, and who is not.

A name that is not allowed is not even looked up, for a look-up would carry words out. The addresses of one that is
are looked at before any is connected to, so that no name leads to this machine or its network unless its address is
allowed as well. What goes through a CONNECT is not looked at: where hosts share addresses, as behind a CDN, TLS may
reach them all.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from envkit.errors import UsageError
from envkit.sandbox.tunnel import CONNECT_SECONDS, Connection, carry

HEAD_BYTES, HEAD_SECONDS = 1 << 16, 60.0
"""For a request line and its headers."""

NOT_PASSED_ON = frozenset(
    {"host", "connection", "keep-alive", "te", "upgrade", "proxy-connection", "proxy-authorization"}
)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAME = re.compile(r"[0-9a-z._:-]+")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Proxy:
    """Serves connections from a box: CONNECT for anything, and plain http one request at a time."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._allowed = frozenset(parse(host) for host in hosts)

    async def __call__(self, connection: Connection) -> None:
        with suppress(OSError):  # either side has hung up, or was silent for too long
            try:
                async with asyncio.timeout(HEAD_SECONDS):
                    request = await _read(connection)
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await self._connect(request.host, request.port)
            except _Refused as refusal:
                await connection.write(refusal.answer)
                await connection.end()
                return
            if request.tunnel:
                await connection.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            writer.write(request.rest)
            await carry(connection, reader, writer)

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self._named(host, port):
            allowed = ", ".join(sorted(str(one) for one in self._allowed))
            raise _Refused(403, f"This box may not reach {host}:{port}. It may reach: {allowed or 'nothing'}.")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _Refused(502, f"{host} has no address: {error}") from error
        why = "it has no address"
        for address in dict.fromkeys(str(one[4][0]) for one in found):
            if not self._may_connect(address, port):
                why = f"{address} is no public address: allow the address itself, if it is meant"
                continue
            try:
                return await asyncio.open_connection(address, port)
            except OSError as error:
                why = str(error)
        raise _Refused(502, f"{host}:{port} cannot be reached: {why}.")

    def _named(self, host: str, port: int) -> bool:
        return Allowed(host, None) in self._allowed or Allowed(host, port) in self._allowed

    def _may_connect(self, address: str, port: int) -> bool:
        """Of an address that an allowed name has, or that was asked for itself."""
        return self._named(_normal(address), port) or _is_public(ipaddress.ip_address(address))


@dataclass(frozen=True)
class Allowed:
    """One host of an `Allow`; any port of it for None."""

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def parse(host: str) -> Allowed:
    """`NAME`, `ADDRESS`, either with `:PORT`, IPv6 then in brackets; UsageError for what is neither."""
    with suppress(ValueError):
        return Allowed(str(ipaddress.ip_address(host)), None)
    with suppress(ValueError):
        found = urlsplit(f"//{host}")
        name = _normal(found.hostname or "")
        if found.netloc == host and "@" not in host and found.port != 0 and _NAME.fullmatch(name):
            return Allowed(name, found.port)
    raise UsageError(f"Allow(hosts): {host!r} is no host: a name or an address was due, as pypi.org or 10.0.0.7:8000.")


@dataclass(frozen=True)
class _Request:
    host: str
    port: int
    tunnel: bool
    rest: bytes
    """What the host is sent first."""


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        body = f"{why}\n".encode("utf-8", "backslashreplace")
        head = f"HTTP/1.1 {status} {_WORDS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        self.answer = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


_WORDS = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway"}


async def _read(connection: Connection) -> _Request:
    """What is asked for. Its headers are rewritten so that the host ends the connection: the next request on it could
    be for another host."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await connection.read()
        if not more or len(data) > HEAD_BYTES:
            raise _Refused(400, "A request with headers was due.")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    words = first.decode("ascii", "replace").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Refused(400, "A request line of HTTP/1.1 was due.")
    method, target, version = words
    tunnel = method == "CONNECT"
    try:
        url = urlsplit(f"//{target}" if tunnel else target)
        host, port = url.hostname, url.port or (None if tunnel else 80)
    except ValueError as error:
        raise _Refused(400, f"The target is no URL: {error}") from error
    if not host or not port or url.scheme != ("" if tunnel else "http"):
        raise _Refused(400, "HOST:PORT was due for CONNECT, and a whole http:// URL for anything else.")
    if tunnel:
        return _Request(_normal(host), port, tunnel, rest)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    authority = url.netloc.rpartition("@")[2]
    lines = [f"{method} {path} {version}".encode(), f"Host: {authority}".encode(), b"Connection: close"]
    return _Request(_normal(host), port, tunnel, b"\r\n".join([*lines, *_passed_on(headers), b"", b""]) + rest)


def _passed_on(headers: Sequence[bytes]) -> list[bytes]:
    return [line for line in headers if line.partition(b":")[0].strip().lower().decode("latin-1") not in NOT_PASSED_ON]


def _normal(host: str) -> str:
    """One spelling for each host."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)
    name = host.lower().rstrip(".")
    with suppress(UnicodeError):
        return name.encode("idna").decode()
    return name


def _is_public(address: _Address) -> bool:
    """Whether it is anywhere in the internet, by no detour: not of this machine, its network or its cloud."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or address in _NAT64:
            return False
    return address.is_global and not address.is_multicast
