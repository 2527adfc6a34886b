"""`SDKClient`: an `openai.AsyncOpenAI` that a user already has (Azure, a gateway, own auth) behind the same seam."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson

from envkit.clients.base import Client, Completion, Request
from envkit.clients.endpoint import Endpoint
from envkit.clients.retry import Places, Retryable, retry_after, with_retries
from envkit.clients.stream import whole
from envkit.clients.wire import body, completion, refusal, shown

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class SDKClient(Client):
    """Completions by the `openai` SDK. The client belongs to the caller, who closes it; its own retries are not used.

    `options` are the fields of an `Endpoint` other than URL, model and key: sampling, extra_body, prices and so on.
    """

    def __init__(self, client: AsyncOpenAI, model: str, **options: Any) -> None:
        self.name = model
        self.endpoint = Endpoint(url=str(client.base_url), model=model, **options)
        self._client = client.with_options(max_retries=0, timeout=None)
        self._places = Places(self.endpoint.max_in_flight) if self.endpoint.max_in_flight else None

    def about(self) -> dict[str, Any]:
        endpoint = self.endpoint.model_dump(include={"url", "sampling", "extra_body", "stream"})
        return {"client": "sdk", "model": self.name, **endpoint}

    async def complete(self, request: Request) -> Completion:
        return await with_retries(self._attempt, request, max_retries=self.endpoint.max_retries, places=self._places)

    async def _attempt(self, request: Request) -> Completion:
        import openai

        secret = self._client.api_key
        try:
            async with asyncio.timeout(self.endpoint.request_timeout):
                raw = await self._answer(request)
        except openai.APIStatusError as error:
            after = retry_after(error.response.headers.get("Retry-After"))
            # the SDK's own error quotes the body, in which a server may repeat the key
            raise refusal(error.status_code, error.response.text, self.endpoint, secret=secret, after=after) from None
        except orjson.JSONDecodeError as error:
            raise Retryable(f"{self.endpoint.url} answered what is not JSON: {error}") from error
        except TimeoutError as error:
            raise Retryable(f"{self.endpoint.url} did not answer in {self.endpoint.request_timeout:g} s") from error
        except openai.APIError as error:
            cause = error.__cause__ or error
            raise Retryable(f"{self.endpoint.url}: {shown(str(cause), secret) or type(cause).__name__}") from error
        return completion(raw, request, self.endpoint, secret=secret)

    async def _answer(self, request: Request) -> Any:
        """The response as it came: the SDK's own types would drop fields that it does not know."""
        fields = body(request, self.endpoint, self.name)
        create = self._client.chat.completions.with_streaming_response.create
        async with create(model=self.name, messages=[], stream=self.endpoint.stream, extra_body=fields) as response:
            parts = _readable(response.iter_bytes(), self.endpoint)
            if self.endpoint.stream and "application/json" not in response.headers.get("Content-Type", ""):
                return await whole(parts, self.endpoint, secret=self._client.api_key)
            return orjson.loads(b"".join([part async for part in parts]))


async def _readable(parts: AsyncIterable[bytes], endpoint: Endpoint) -> AsyncIterator[bytes]:
    """The same bytes; what breaks the connection under them is Retryable, whatever library the SDK stands on."""
    try:
        async for part in parts:
            yield part
    except Exception as error:  # httpx's or httpx2's, by the SDK's version
        raise Retryable(f"{endpoint.url}: {shown(str(error)) or type(error).__name__}") from error
