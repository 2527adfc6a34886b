"""The default client: the OpenAI wire protocol over aiohttp and orjson, and over `PlainHTTP` where that will do.

No limit on connections, and no read timeout unless the endpoint sets one: it would kill just the longest episodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson

from envkit.clients.base import Client, Completion, Request
from envkit.clients.endpoint import Endpoint
from envkit.clients.plain import PlainHTTP
from envkit.clients.retry import Places, Retryable, retry_after, with_retries
from envkit.clients.stream import whole
from envkit.clients.wire import body, completion, encoded, refusal, shown
from envkit.errors import ModelError, UsageError
from envkit.terminal import one_line

CONNECT_TIMEOUT = 60.0
PREFLIGHT_TIMEOUT = 10.0
REDIRECTS = range(300, 400)
MODELS_SHOWN = 20
"""Names of served models that a message lists: some gateways serve hundreds."""


class HTTPClient(Client):
    """A served model. Safe for any number of requests at once; used in one event loop at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = endpoint.model or ""
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = Places(endpoint.max_in_flight) if endpoint.max_in_flight else None
        self._plain: PlainHTTP | None = None
        self._target = f"{endpoint.url}/chat/completions"
        self._secret: str | None = None

    def about(self) -> dict[str, Any]:
        endpoint = self.endpoint.model_dump(include={"url", "sampling", "extra_body", "stream"})
        return {"client": "http", "model": self.name, **endpoint}

    async def preflight(self) -> None:
        """Ask for the served models, and take the model's name from there where none was given.

        ModelError where the server is not there or refuses, UsageError where there is a choice of models.
        """
        session = self._open_session()
        try:
            timeout = aiohttp.ClientTimeout(total=PREFLIGHT_TIMEOUT)
            async with session.get(f"{self.endpoint.url}/models", timeout=timeout) as response:
                status, content = response.status, await response.read()
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise ModelError(f"{self.endpoint.url} {self._unreachable(error)}") from error
        if status in (401, 403):
            raise self._refused(status, content.decode(errors="replace"))
        if not self.name:
            self.name = self._only_model(status, content)

    def _unreachable(self, error: Exception) -> str:
        reason = shown(str(error), self._secret) or type(error).__name__
        if isinstance(error, TimeoutError):
            return f"cannot be reached: no answer in {PREFLIGHT_TIMEOUT:g} s. Is the server running?"
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f"cannot be reached: {reason}. Is the host's name right?"
        if isinstance(error, aiohttp.ClientSSLError):
            return f"cannot be trusted: {reason}. Is https:// right, and the server's certificate valid?"
        return f"cannot be reached: {reason}. Is the server running?"

    def _refused(self, status: int, text: str, *, after: float | None = None) -> ModelError:
        advice = ""
        if status in (401, 403):
            name = self.endpoint.key_name
            advice = "Does it want a key: " + (
                f"is the key in {name} right?" if name else "name the key's variable with --key-env."
            )
        elif status == 404:
            advice = self._hint_at_v1()
        return refusal(status, text, self.endpoint, secret=self._secret, after=after, advice=advice)

    def _hint_at_v1(self) -> str:
        return "" if self.endpoint.url.endswith("/v1") else f"Is {self.endpoint.url}/v1 meant?"

    def _only_model(self, status: int, content: bytes) -> str:
        try:
            names = [str(model["id"]) for model in orjson.loads(content)["data"]] if status == 200 else []
        except (orjson.JSONDecodeError, LookupError, TypeError):
            names = []
        if len(names) == 1:
            return names[0]
        if not names:
            told = f"answered {status} when asked which models it serves" if status != 200 else "lists no model"
            raise ModelError(
                f"{self.endpoint.url} {told}: name it with -m. {self._hint_at_v1()}".rstrip(), status=status
            )
        listed = ", ".join(map(one_line, names[:MODELS_SHOWN]))
        more = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
        raise UsageError(f"{self.endpoint.url} serves {listed}{more}: choose one with -m.")

    async def complete(self, request: Request) -> Completion:
        return await with_retries(self._attempt, request, max_retries=self.endpoint.max_retries, places=self._places)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._plain is not None:
            await self._plain.close()
            self._plain = None

    async def _attempt(self, request: Request) -> Completion:
        endpoint = self.endpoint
        data = encoded(body(request, endpoint, self.name))
        try:
            raw = await self._post(data)
        except orjson.JSONDecodeError as error:
            raise Retryable(f"{endpoint.url} answered what is not JSON: {error}") from error
        except TimeoutError as error:
            seconds = endpoint.request_timeout or CONNECT_TIMEOUT
            raise Retryable(f"{endpoint.url} did not answer in {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = shown(str(error), self._secret) or type(error).__name__
            raise Retryable(f"{endpoint.url}: {reason}") from error
        return completion(raw, request, endpoint, secret=self._secret)

    async def _post(self, data: bytes) -> Any:
        """The response to this body, read as JSON; ModelError where its status is no success."""
        session = self._open_session()
        if self._plain is not None:
            reply = await self._plain.post(data)
            if reply.status == 200:
                return orjson.loads(reply.content)
            if reply.status not in REDIRECTS:
                text = reply.content.decode(errors="replace")
                raise self._refused(reply.status, text, after=retry_after(reply.retry_after))
        async with session.post(self._target, data=data) as response:
            if response.status != 200:
                after = retry_after(response.headers.get("Retry-After"))
                raise self._refused(response.status, await response.text(errors="replace"), after=after)
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> Any:
        if self.endpoint.stream and response.content_type != "application/json":  # some servers cannot stream
            return await whole(response.content.iter_any(), self.endpoint, secret=self._secret)
        return orjson.loads(await response.read())

    def _open_session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            headers = {"Content-Type": "application/json"}
            self._secret = self.endpoint.secret
            if self._secret is not None:
                headers["Authorization"] = f"Bearer {self._secret}"
            timeout = aiohttp.ClientTimeout(total=self.endpoint.request_timeout, sock_connect=CONNECT_TIMEOUT)
            self._session = aiohttp.ClientSession(
                headers=headers,
                timeout=timeout,
                connector=aiohttp.TCPConnector(limit=0),
                proxy=_proxy(self.endpoint.url),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._loop = loop
            self._plain = self._plain_http(headers)
        return self._session

    def _plain_http(self, headers: Mapping[str, str]) -> PlainHTTP | None:
        """The short way, where it is one."""
        endpoint, parts = self.endpoint, urlsplit(self._target)
        if parts.scheme != "http" or parts.username or parts.query or endpoint.stream or _proxy(endpoint.url):
            return None
        if not self._target.isascii():
            return None
        return PlainHTTP(self._target, headers, connect=CONNECT_TIMEOUT, within=endpoint.request_timeout)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this URL; asked once, where aiohttp would ask at every request."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
