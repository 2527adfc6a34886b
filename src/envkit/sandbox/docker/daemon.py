"""`Daemon`: the docker daemon's API for coroutines: calls run in a few threads, a program's streams in the event loop.

The streams are read from a connection of their own: what the `docker` package offers may lose the first bytes.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from envkit.errors import InfraError
from envkit.sandbox.docker import address as addresses

T = TypeVar("T")

CALLS = 16
"""Calls to the daemon at once, over all boxes: it handles more only more slowly."""

SECONDS = 120.0
"""For one call; starting a container on a busy machine takes several."""

HEADER = struct.Struct(">BxxxI")
"""Before each piece of output: its stream and its length."""


class Refused(InfraError):
    """The daemon answered, with an error: `status` is HTTP's."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"The docker daemon refused: {why.strip()[:500]!a}")
        self.status = status


class Daemon:
    """A daemon by its address: `unix:///path` or `tcp://host:port`, by default where docker itself looks."""

    def __init__(self, address: str | None = None) -> None:
        self.address = addresses.default() if address is None else address
        self._threads: ThreadPoolExecutor | None = None
        self._client: Any = None
        self._lock = threading.Lock()

    async def call(self, method: str, *args: object, **named: object) -> Any:
        """A method of `docker.APIClient`. InfraError where the daemon cannot be reached, Refused where it says no."""
        return await self._in_thread(lambda: getattr(self._connected(), method)(*args, **named))

    async def use(self, work: Callable[[Any], T]) -> T:
        """What takes a `docker.APIClient` longer than a call does, as reading a stream; it runs in a thread."""
        return await self._in_thread(lambda: work(self._connected()))

    async def post(self, path: str, content: object) -> Any:
        """For what `docker.APIClient` has no method for."""

        def send() -> Any:
            client = self._connected()
            response = client.post(f"{client.base_url}/v{client.api_version}{path}", json=content, timeout=SECONDS)
            return client._result(response, json=True)  # its way of raising what it is told

        return await self._in_thread(send)

    async def attach(self, execution: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Start an execution that was created, and have its streams: framed output to read, stdin to write."""
        where = urlsplit(self.address)
        try:
            if where.scheme == "unix":
                reader, writer = await asyncio.open_unix_connection(where.path)
            else:
                reader, writer = await asyncio.open_connection(where.hostname, where.port or 2375)
        except OSError as error:
            raise InfraError(f"The docker daemon at {self.address} does not answer: {error}") from error
        try:
            body = json.dumps({"Detach": False, "Tty": False}).encode()
            lines = (
                f"POST /v{self._connected().api_version}/exec/{execution}/start HTTP/1.1",
                "Host: docker",
                "Connection: Upgrade",
                "Upgrade: tcp",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
            )
            writer.write("\r\n".join((*lines, "", "")).encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")):
                why = (await reader.read(2000)).decode("utf-8", "replace")
                raise InfraError(f"The docker daemon did not start a program: {why!a}")
        except (OSError, asyncio.IncompleteReadError) as error:
            writer.close()
            raise InfraError(f"The docker daemon at {self.address} hung up: {error}") from error
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def close(self) -> None:
        client, self._client = self._client, None
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        if client is not None:
            client.close()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CALLS, thread_name_prefix="envkit-docker")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(self._reached, work))

    def _reached(self, work: Callable[[], Any]) -> Any:
        requests, docker = importlib.import_module("requests"), importlib.import_module("docker.errors")
        try:
            return work()
        except docker.APIError as error:
            raise Refused(int(error.response.status_code), str(error.explanation or error)) from error
        except docker.DockerException as error:
            raise InfraError(f"The docker daemon at {self.address} cannot be used: {str(error)!a}") from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise InfraError(f"The docker daemon at {self.address} does not answer: {error}") from error

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                docker: Any = importlib.import_module("docker")
                self._client = docker.APIClient(self.address, version="auto", timeout=SECONDS, max_pool_size=CALLS)
            return self._client
