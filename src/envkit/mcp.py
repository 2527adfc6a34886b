"""`mcp_tools`: the tools of an MCP server, for the length of a block.

    async with mcp_tools("http://127.0.0.1:9000/mcp") as tools:
        await rollout.chat.run_tools(tools)

Each block has a server process, or a session, of its own: what it holds belongs to one rollout, and is gone with the
block. A server that dies is an InfraError of the rollout, never a mistake of the model. Needs `envkit[mcp]`.
"""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from envkit.errors import EnvError, InfraError
from envkit.sandbox.pool import outlast
from envkit.signatures import json_object
from envkit.terminal import one_line
from envkit.tools import Tool, ToolFailed, ToolUnavailable
from envkit.types import Image, Text

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from mcp import ClientSession
    from mcp import types as wire

START_SECONDS = 60.0
"""For a server to start and to list its tools."""
CLOSE_SECONDS = 10.0
"""For a server to end; it is killed on the way where it does not."""
MAX_EVENT = 64 << 20
"""Bytes of one message of a server; what the model sees of it has a limit of its own."""
MAX_DESCRIPTION = 10_000
"""Characters of a tool's description, which the server wrote and the model reads."""
MISTAKES = 5
"""Wrong arguments that are named in one answer."""
NOT_THERE = ("Server returned an error response", "Session terminated")
"""What the SDK says in a server's place of an HTTP status: a 5xx of what stands before it, a 404 after it was lost."""
SAID = 400
"""Characters of what a server wrote on stderr that its failure to start tells of."""


@asynccontextmanager
async def mcp_tools(
    server: str | Sequence[str],
    *,
    prefix: str = "",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncGenerator[list[Tool]]:
    """The tools of the server at a URL (streamable HTTP), or of the one that this command starts (stdio).

    `prefix` is put before each name, where two servers have the same. A command gets `env` over the few variables
    that are no secret, and runs on this machine, with the rights of this process. InfraError where the server cannot
    be started; a call raises `ToolUnavailable` once it is gone.
    """
    connection = _Connection(_transport(server, env=env, cwd=cwd, headers=headers), str(server))
    try:
        yield await connection.tools(prefix)
    finally:
        await connection.close()


class _Connection:
    """A session with a server, held open by a task of its own: the SDK's scopes are left by the task that entered."""

    def __init__(self, transport: Callable[[AsyncExitStack, TextIO], Any], server: str) -> None:
        self._transport, self._server = transport, one_line(server, 200)
        self._ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._task = asyncio.ensure_future(self._hold())

    async def tools(self, prefix: str) -> list[Tool]:
        try:
            async with asyncio.timeout(START_SECONDS):
                session = await asyncio.shield(self._ready)
                listed = await _listed(session)
        except TimeoutError:
            raise InfraError(f"The MCP server {self._server} did not list its tools in {START_SECONDS:g} s.") from None
        except _errors() as error:
            raise InfraError(f"The MCP server {self._server} did not list its tools: {_cause(error)}") from error
        return [_tool(session, tool, prefix) for tool in listed]

    async def close(self) -> None:
        self._over.set()
        if not self._ready.done():
            self._task.cancel()
        await outlast(self._task, CLOSE_SECONDS)
        self._task.cancel()
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # told by `tools`, if anybody asked

    async def _hold(self) -> None:
        from mcp import ClientSession

        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            try:
                async with AsyncExitStack() as stack:
                    streams = await self._transport(stack, stderr)
                    session = await stack.enter_async_context(ClientSession(*streams))
                    await session.initialize()
                    self._ready.set_result(session)
                    await self._over.wait()
            except Exception as error:  # noqa: BLE001 - whatever a transport raises, the server is not there
                if not self._ready.done():
                    stderr.seek(0)
                    said = one_line(stderr.read()[-SAID:], SAID)
                    why = f"{_cause(error)}{f' ({said})' if said else ''}"
                    self._ready.set_exception(InfraError(f"The MCP server {self._server} cannot be used: {why}"))


def _transport(
    server: str | Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: str | Path | None,
    headers: Mapping[str, str] | None,
) -> Callable[[AsyncExitStack, TextIO], Any]:
    """What opens the streams to a server."""
    try:
        import httpx2
        from mcp.client.stdio import StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client
    except ImportError as error:
        raise EnvError("MCP servers need the package `mcp`: pip install 'envkit[mcp]'") from error

    if isinstance(server, str) and server.startswith(("http://", "https://")):

        async def over_http(stack: AsyncExitStack, stderr: TextIO) -> Any:
            timeout = httpx2.Timeout(None, connect=START_SECONDS)  # a call's deadline is the tool's
            client = await stack.enter_async_context(httpx2.AsyncClient(headers=dict(headers or {}), timeout=timeout))
            speaking = streamable_http_client(server, http_client=client, max_sse_event_size=MAX_EVENT)
            streams = await stack.enter_async_context(speaking)
            return streams[:2]

        return over_http
    command, *args = shlex.split(server) if isinstance(server, str) else server
    started = StdioServerParameters(command=command, args=args, env=dict(env or {}), cwd=cwd)

    async def over_stdio(stack: AsyncExitStack, stderr: TextIO) -> Any:
        return await stack.enter_async_context(stdio_client(started, errlog=stderr))

    return over_stdio


async def _listed(session: ClientSession) -> list[wire.Tool]:
    """All pages of the server's tools."""
    from mcp.types import PaginatedRequestParams

    tools: list[wire.Tool] = []
    cursor: str | None = None
    while True:
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            return tools


def _tool(session: ClientSession, tool: wire.Tool, prefix: str) -> Tool:
    """The server's tool as ours: its own schema is what the model is shown, and what arguments are checked by."""
    from jsonschema.validators import validator_for

    name = prefix + tool.name
    validator: Validator = validator_for(tool.input_schema)(tool.input_schema)

    async def call(**arguments: Any) -> tuple[Text | Image, ...] | str:
        try:
            result: Any = await session.call_tool(tool.name, arguments)
        except _errors() as error:
            if _answered(error):
                raise ToolFailed(str(error)) from error
            raise ToolUnavailable(f"the MCP server of '{name}' does not answer: {_cause(error)}") from error
        content = _content(result)
        if result.is_error:
            raise ToolFailed(content if isinstance(content, str) else "".join(_text(part) for part in content))
        return content

    return Tool(
        function=call,
        name=name,
        description=(tool.description or "")[:MAX_DESCRIPTION],
        parameters=tool.input_schema,
        arguments=partial(_checked, validator, name),
    )


def _checked(validator: Validator, name: str, text: str) -> dict[str, Any]:
    """The arguments by the server's schema; ValueError with a sentence for the model."""
    arguments = json_object(name, text)
    wrong = [
        one_line(f"{'.'.join(map(str, e.path)) or 'they'}: {e.message}", 200) for e in validator.iter_errors(arguments)
    ]
    if wrong:
        raise ValueError(f"The arguments of '{name}' do not fit: {'; '.join(wrong[:MISTAKES])}.")
    return arguments


def _content(result: Any) -> tuple[Text | Image, ...] | str:
    """What a call gave: its text as one text, unless there are images among it."""
    parts = [_part(part) for part in result.content]
    if any(isinstance(part, Image) for part in parts):
        return tuple(parts)
    if not parts and result.structured_content is not None:
        import orjson

        return orjson.dumps(result.structured_content).decode()
    return "\n".join(_text(part) for part in parts)


def _part(part: Any) -> Text | Image:
    import base64

    if part.type == "image":
        return Image.of(base64.b64decode(part.data), part.mime_type)
    if part.type == "text":
        return Text(text=part.text)
    if part.type == "resource" and getattr(part.resource, "text", None) is not None:
        return Text(text=part.resource.text)
    return Text(text=f"[{part.type}: only text and images can be shown]")


def _text(part: Text | Image) -> str:
    return part.text if isinstance(part, Text) else ""


def _errors() -> tuple[type[Exception], ...]:
    """What the SDK raises where a server is gone, or speaks no MCP."""
    from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
    from mcp import MCPError

    return (MCPError, ClosedResourceError, BrokenResourceError, EndOfStream, OSError)


def _answered(error: Exception) -> bool:
    """Whether a living server said this of the call. The SDK words a lost connection, and what stands before a server
    in its place, as errors of the same type."""
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

    gone = (CONNECTION_CLOSED, REQUEST_TIMEOUT)
    return isinstance(error, MCPError) and error.code not in gone and error.message not in NOT_THERE


def _cause(error: BaseException) -> str:
    """One sentence for what may be a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 300)
