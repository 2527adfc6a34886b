"""The HTTP side of a gateway: routes, key, bodies, streams that are kept alive, and retries that are known as such.

Whoever holds the key is a stranger all the same: whatever comes in, what goes out is an answer or a clean refusal.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import orjson
from aiohttp import web
from aiohttp.http import HttpProcessingError

from envkit.clients.wire import encoded
from envkit.errors import InfraError
from envkit.gateway.anthropic import ANTHROPIC, count_tokens
from envkit.gateway.asked import Dialect, Event, Refused
from envkit.gateway.chat import CHAT
from envkit.gateway.gateway import Call, Gateway
from envkit.gateway.responses import RESPONSES

MAX_BODY = 32 * 2**20
"""Bytes of a body, Anthropic's own limit: a window full of text and some pictures."""
AT_ONCE = 64
"""Bodies that are read and answered at once; further ones wait, unread."""
PING_SECONDS = 10.0
"""Between signs of life in a stream, and before its first: what fails sooner is an HTTP status of its own."""
BACKLOG = 1024

ROUTES = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": RESPONSES,
    "/v1/messages": ANTHROPIC,
}

_SILENT = logging.Logger("envkit.gateway", logging.CRITICAL + 1)
"""For what aiohttp would print of requests that are no HTTP."""

FAILED = Refused(500, "The gateway failed.")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves one gateway on a port of its own of 127.0.0.1."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._calls: dict[tuple[str, bytes], list[Call]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guarded])
        for path in ROUTES:
            app.router.add_post(path, self._answer)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{name:.+}", self._model)
        self._runner = web.AppRunner(app, access_log=None, logger=_SILENT, shutdown_timeout=0.5)

    async def start(self) -> int:
        """Listen; the port. InfraError where this machine has none to give."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=BACKLOG).start()
        except OSError as error:
            raise InfraError(f"The gateway cannot listen: {error}") from error
        return self._runner.addresses[0][1]

    async def close(self) -> None:
        """Close the port and every connection, once the calls under way are gone."""
        await self._gateway.emptied()
        self._calls.clear()
        await self._runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only with the key, only while it is served; every refusal in the words of its dialect."""
        try:
            self._allow(request)
            return await handler(request)
        except Refused as refused:
            return _refusal(request, refused)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(request, Refused(413, f"The body is longer than {MAX_BODY:,} bytes."))
        except web.HTTPException as wrong:
            told = f"{wrong.reason}: {request.method} {request.path[:200]}. There are {', '.join(ROUTES)}."
            return _refusal(request, Refused(wrong.status, told))
        except (HttpProcessingError, web.RequestPayloadError, ConnectionError):
            return _refusal(request, Refused(400, "The body could not be read."))
        except Exception as bug:  # noqa: BLE001 - ours, not the program's: the rollout fails for it, and says so
            self._gateway.end(bug)
            return _refusal(request, FAILED)

    def _allow(self, request: web.Request) -> None:
        said = request.headers.get("x-api-key") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(said.encode("utf-8", "surrogateescape"), self._gateway.key.encode()):
            raise Refused(401, "The key is wrong: it is the one in OPENAI_API_KEY and ANTHROPIC_API_KEY.")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        dialect = ROUTES[request.path]
        async with self._places:
            call = self._taken(request, dialect, await request.read())
            if call.asked.stream:
                return await self._stream(request, dialect, call)
            await asyncio.wait({call.task})
            return _json(dialect.answer(call.answered()))

    def _taken(self, request: web.Request, dialect: Dialect, raw: bytes) -> Call:
        """The call of this request: a new one, or the one that it is another try of."""
        key = request.headers.get("Idempotency-Key")
        said = request.headers.get("x-stainless-retry-count", "")
        retries = int(said) if said.isascii() and said.isdecimal() and len(said) < 4 else 0
        made = self._calls.setdefault((request.path, hashlib.sha256(raw).digest()), [])
        for call in made:
            if call.key == key and (key is not None or call.retries < retries):
                call.retries = max(call.retries, retries)
                return call
        call = self._gateway.call(dialect.asked(_object(raw)))
        call.key, call.retries = key, retries
        made.append(call)
        return call

    async def _stream(self, request: web.Request, dialect: Dialect, call: Call) -> web.StreamResponse:
        """The answer as server-sent events; a failure before the first of them is an HTTP status."""
        stream = _Stream(request, dialect)
        opening = dialect.opening(call.asked, call.id, call.created)
        if await _ended(call):
            rest = dialect.events(call.answered())
            await stream.begin(opening)
        else:
            await stream.begin(opening)
            while not await _ended(call):
                await stream.ping()
            rest = self._rest(dialect, call)
        await stream.send(rest)
        return await stream.end()

    def _rest(self, dialect: Dialect, call: Call) -> list[Event]:
        """What follows in a stream that has begun, whose status cannot say any more that something failed."""
        try:
            return dialect.events(call.answered())
        except Refused as refused:
            return dialect.failure(refused, call.asked, call.id)
        except Exception as bug:  # noqa: BLE001 - as in `_guarded`
            self._gateway.end(bug)
            return dialect.failure(FAILED, call.asked, call.id)

    async def _count(self, request: web.Request) -> web.StreamResponse:
        async with self._places:
            raw = await request.read()
            _object(raw)
            return _json(count_tokens(raw))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        """The one model."""
        name = self._gateway.model
        return _json({"object": "list", "data": [_model(name)], "has_more": False, "first_id": name, "last_id": name})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        """The one model, under the name by which a program asks for it, as its calls may."""
        return _json(_model(request.match_info["name"]))


class _Stream:
    """A response of server-sent events."""

    def __init__(self, request: web.Request, dialect: Dialect) -> None:
        self._request, self._dialect = request, dialect
        self._response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        )
        self._sent = 0

    async def begin(self, opening: Sequence[Event]) -> None:
        await self._response.prepare(self._request)
        await self.send(opening)

    async def send(self, events: Sequence[Event]) -> None:
        if events:
            await self._response.write(b"".join(self._encoded(*event) for event in events))

    async def ping(self) -> None:
        if self._dialect.ping is None:
            await self._response.write(b": still thinking\n\n")
        else:
            await self.send([self._dialect.ping])

    async def end(self) -> web.StreamResponse:
        await self._response.write(self._dialect.done)
        await self._response.write_eof()
        return self._response

    def _encoded(self, name: str | None, data: dict[str, Any]) -> bytes:
        if self._dialect.numbered:
            data = {**data, "sequence_number": self._sent}
        self._sent += 1
        head = b"" if name is None else f"event: {name}\n".encode()
        return head + b"data: " + encoded(data) + b"\n\n"


async def _ended(call: Call) -> bool:
    """Wait a while for the call's end."""
    await asyncio.wait({call.task}, timeout=PING_SECONDS)
    return call.task.done()


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body must be one JSON object.")
    return cast("dict[str, Any]", body)


def _model(name: str) -> dict[str, Any]:
    """A model in the words of both houses."""
    since = {"created": 0, "created_at": "1970-01-01T00:00:00Z"}
    return {"id": name, "object": "model", "type": "model", "owned_by": "envkit", "display_name": name, **since}


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=encoded(body), status=status, content_type="application/json")


def _refusal(request: web.Request, refused: Refused) -> web.Response:
    """A refusal that no program of ours asks for again: both SDKs read the header."""
    dialect = ANTHROPIC if request.path.startswith("/v1/messages") else CHAT
    response = _json(dialect.error(refused), refused.status)
    response.headers["x-should-retry"] = "false"
    return response
