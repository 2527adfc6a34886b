"""What leads out of a box and into it, where its programs themselves have no network but a loopback."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import Sandbox, SandboxSpec
from envkit.sandbox.tunnel import Link, carry


def check(spec: SandboxSpec) -> None:
    """UsageError for ways that cannot be."""
    if spec.ports and spec.network == "none":
        raise UsageError("A box without any network has no ports: say SandboxSpec(network='loopback', ports=...).")
    if not isinstance(spec.network, str):
        from envkit.sandbox.proxy import parse

        for host in spec.network.hosts:
            parse(host)


class Ways:
    """The proxy for the hosts of an `Allow`, and the ports of `Sandbox.url`. A backend begins them with its box, and
    closes them with it."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._out: Link | None = None
        self._in: Link | None = None
        self._servers: dict[int, asyncio.Server] = {}
        self._turn = asyncio.Lock()

    async def begin(self) -> dict[str, str]:
        """The variables by which programs find what they may reach."""
        network = self._box.spec.network
        if isinstance(network, str):
            return {}
        from envkit.sandbox.proxy import Proxy

        self._out = await Link.listening(self._box, 0, Proxy(network.hosts))
        proxy = f"http://127.0.0.1:{self._out.port}"
        found = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy) | {
            "NO_PROXY": "localhost,127.0.0.1,::1"
        }
        return found | {name.lower(): value for name, value in found.items()}

    async def url(self, port: int) -> str:
        """Where this machine reaches the port of the box."""
        if port not in self._box.spec.ports:
            raise UsageError(f"The port {port} was not asked for: say SandboxSpec(ports=({port},)).")
        await self._link()
        async with self._turn:
            if port not in self._servers:
                self._servers[port] = await asyncio.start_server(
                    lambda reader, writer: self._carry(port, reader, writer), "127.0.0.1", 0
                )
        return f"http://127.0.0.1:{self._servers[port].sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()
        for link in (self._out, self._in):
            if link is not None:
                await link.close()

    async def _carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, InfraError):  # nobody listens there, or the box is gone
                link = await self._link()
                connection = await link.connect(port)
                try:
                    await carry(connection, reader, writer)
                finally:
                    await link.drop(connection)
        finally:
            writer.close()

    async def _link(self) -> Link:
        """The one for connections into the box; programs of the box may have ended the one before."""
        async with self._turn:
            if self._in is None or self._in.over:
                self._in = await Link.connecting(self._box)
            return self._in
