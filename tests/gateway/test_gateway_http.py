"""The gateway's HTTP side: keys, hostile bodies, retries, streams that wait, programs that leave, and stragglers."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from external import Model, Program, anthropic_client, openai_client, trace_of

from envkit import Message, ModelError, Scripted
from envkit.clients.base import Client, Completion, Request
from envkit.gateway import http
from envkit.gateway.asked import Refused
from envkit.gateway.gateway import Gateway

HELLO: Any = [{"role": "user", "content": "a"}]
CHAT = {"model": "m", "messages": HELLO}
ROUTES = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "m", "input": "a"},
    "/v1/messages": {"model": "m", "max_tokens": 5, "messages": HELLO},
}
Post = Callable[..., Awaitable[tuple[int, Any]]]


class Held(Client):
    """Answers when it is let go, with a number."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

    async def complete(self, request: Request) -> Completion:
        self.asked += 1
        number = self.asked
        self.begun.set()
        await self.let_go.wait()
        return Completion(Message.assistant(str(number)))


def posting(talk: Callable[[Gateway, Post], Awaitable[object]]) -> Program:
    """A program that posts bodies of its own making."""

    async def program(gateway: Gateway) -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as session:

            async def post(
                path: str, body: Any, *, key: str | None = None, method: str = "POST", **headers: str
            ) -> tuple[int, Any]:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                sent = {"Authorization": f"Bearer {gateway.key if key is None else key}"}
                sent |= {name.replace("_", "-"): value for name, value in headers.items()}
                async with session.request(method, path, data=data, headers=sent) as response:
                    return response.status, await response.json()

            await talk(gateway, post)

    return program


def text(answer: Any) -> str:
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("path", [*ROUTES, "/v1/messages/count_tokens", "/v1/models", "/", "/etc/passwd"])
@pytest.mark.parametrize("key", ["", "sk-envkit-", "\u00fc\udcff"])
async def test_without_the_key_nothing_is_answered_or_recorded(path: str, key: str) -> None:
    async def talk(gateway: Gateway, post: Post) -> None:
        status, told = await post(path, ROUTES.get(path, {}), key=key.encode("utf-8", "replace").decode())
        assert (status, "key is wrong" in told["error"]["message"]) == (401, True)
        assert gateway.key not in str(told)

    assert (await trace_of(posting(talk), Model())).turns == []


async def test_two_gateways_have_two_keys_and_two_ports() -> None:
    seen: list[tuple[str, int]] = []

    async def look(gateway: Gateway) -> None:
        seen.append((gateway.key, gateway.port))
        await asyncio.sleep(0.05)

    await asyncio.gather(trace_of(look, Model()), trace_of(look, Model()))
    assert len({key for key, _ in seen}) == len({port for _, port in seen}) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/completions", CHAT, 404),
        ("GET", "/v1/chat/completions", b"", 405),
        ("DELETE", "/v1/models", b"", 405),
        *(("POST", path, body, 400) for path in ROUTES for body in (
            b"", b"\x00\xff", b"[]", b"{", b'"\\ud800"', b"{}", b'{"messages": "\\u0000"}', b'{"messages": NaN}',
            b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"tools":' + b'[{"a":' * 50 + b"1" + b"}]" * 50 + b"}")),
        *(("POST", path, b'{"input": "' + b"x" * 3000 + b'"}', 413) for path in ROUTES),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_refused_cleanly(
    method: str, path: str, body: Any, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if status == 413:
        monkeypatch.setattr(http, "MAX_BODY", 2000)

    async def talk(gateway: Gateway, post: Post) -> None:
        got, told = await post(path, body, method=method)
        assert got == status
        assert set(told["error"]) >= {"type", "message"}
        assert "Traceback" not in str(told)
        assert (await post("/v1/chat/completions", CHAT))[0] == 200  # it is still there

    trace = await trace_of(posting(talk), Model("b"))
    assert (trace.outcome, len(trace.turns)) == ("completed", 1)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/responses HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 7\r\n\r\ngarbage",
        b"POST /v1/responses HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"zz\r\n",
        b"GET /v1/models HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_ends_its_connection_alone(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    async def program(gateway: Gateway) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(sent.replace(b"%b", gateway.key.encode()))
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read(65536)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
        writer.close()
        async with openai_client(gateway) as client:
            await client.chat.completions.create(model="m", messages=HELLO)

    trace = await trace_of(program, Model("b"))
    assert (trace.outcome, len(trace.turns)) == ("completed", 1)
    assert capfd.readouterr().err == ""


async def test_a_marked_retry_is_the_same_call_in_flight_and_done() -> None:
    model = Held()

    async def talk(gateway: Gateway, post: Post) -> None:
        first = asyncio.create_task(post("/v1/chat/completions", CHAT, x_stainless_retry_count="0"))
        await model.begun.wait()
        again = asyncio.create_task(post("/v1/chat/completions", CHAT, x_stainless_retry_count="1"))
        other = asyncio.create_task(post("/v1/chat/completions", {**CHAT, "top_p": 1}, x_stainless_retry_count="1"))
        while model.asked < 2:
            await asyncio.sleep(0.01)
        model.let_go.set()
        answers = [await first, await again, await post("/v1/chat/completions", CHAT, x_stainless_retry_count="2")]
        assert [text(answer) for _, answer in answers] == ["1"] * 3
        assert len({answer["id"] for _, answer in answers}) == 1
        assert text((await other)[1]) == "2"  # it never came before, whatever it says

    assert len((await trace_of(posting(talk), model)).turns) == 2


async def test_two_unmarked_equal_calls_are_two_and_each_retry_has_its_own() -> None:
    model = Held()
    model.let_go.set()

    async def talk(gateway: Gateway, post: Post) -> None:
        calls = [text((await post("/v1/chat/completions", CHAT))[1]) for _ in range(2)]
        retries = [post("/v1/chat/completions", CHAT, x_stainless_retry_count="1") for _ in range(2)]
        assert calls == [text((await retry)[1]) for retry in retries] == ["1", "2"]
        marked = [text((await post("/v1/chat/completions", CHAT, Idempotency_Key="k"))[1]) for _ in range(2)]
        assert marked == ["3", "3"]

    assert len((await trace_of(posting(talk), model)).turns) == 3


async def test_an_sdk_that_loses_patience_gets_the_answer_to_its_first_try() -> None:
    model = Held()

    async def program(gateway: Gateway) -> None:
        asyncio.get_running_loop().call_later(1.0, model.let_go.set)
        async with openai_client(gateway, timeout=0.5, max_retries=9) as client:
            said = await client.chat.completions.create(model="m", messages=HELLO)
            assert said.choices[0].message.content == "1"

    assert len((await trace_of(program, model)).turns) == 1


async def test_a_program_that_hangs_up_is_answered_all_the_same_and_on_record() -> None:
    """The model was asked, and an SDK's next try is for this very answer."""
    model = Held()

    async def talk(gateway: Gateway, post: Post) -> None:
        call = asyncio.create_task(post("/v1/chat/completions", CHAT))
        await model.begun.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        model.let_go.set()
        while not gateway.chat.rollout.turns:
            await asyncio.sleep(0.01)
        assert text((await post("/v1/chat/completions", CHAT, x_stainless_retry_count="1"))[1]) == "1"

    assert len((await trace_of(posting(talk), model)).turns) == 1


async def test_stragglers_are_refused_and_nothing_of_theirs_is_recorded() -> None:
    model = Held()
    straggler: list[asyncio.Task[Any]] = []
    served: list[Gateway] = []

    async def program(gateway: Gateway) -> None:
        async def straggle() -> None:
            async with openai_client(gateway, max_retries=0) as client:
                await client.chat.completions.create(model="m", messages=HELLO)

        served.append(gateway)
        straggler.append(asyncio.create_task(straggle()))
        await model.begun.wait()

    trace = await trace_of(program, model)
    model.let_go.set()
    (late,) = await asyncio.gather(*straggler, return_exceptions=True)
    assert isinstance(late, openai.APIConnectionError) or getattr(late, "status_code", None) == 410
    assert (trace.outcome, trace.turns) == ("completed", [])
    with pytest.raises(Refused, match="closed"):
        served[0].call(http.ROUTES["/v1/chat/completions"].asked(CHAT))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served[0].port)


async def deltas(gateway: Gateway, dialect: str) -> AsyncIterator[str]:
    """The text of a stream, as the dialect's SDK reads it."""
    if dialect == "anthropic":
        async with anthropic_client(gateway) as client:
            async with client.messages.stream(model="m", max_tokens=5, messages=HELLO) as stream:
                async for part in stream.text_stream:
                    yield part
        return
    async with openai_client(gateway) as client:
        if dialect == "chat":
            async for chunk in await client.chat.completions.create(model="m", messages=HELLO, stream=True):
                yield chunk.choices[0].delta.content or ""
        else:
            async with client.responses.stream(model="m", input="a") as stream:
                async for event in stream:
                    if event.type == "response.output_text.delta":
                        yield event.delta


@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
async def test_a_stream_is_kept_alive_while_the_model_thinks(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PING_SECONDS", 0.02)
    model = Held()
    pings = 0
    ping = http._Stream.ping

    async def counted(self: Any) -> None:
        nonlocal pings
        pings += 1
        if pings == 3:
            model.let_go.set()
        await ping(self)

    monkeypatch.setattr(http._Stream, "ping", counted)

    async def program(gateway: Gateway) -> None:
        assert "".join([part async for part in deltas(gateway, dialect)]) == "1"

    assert len((await trace_of(program, model)).turns) == 1
    assert pings >= 3


@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
async def test_a_stream_that_fails_late_is_an_error_to_the_sdk(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PING_SECONDS", 0.02)

    class Fails(Held):
        async def complete(self, request: Request) -> Completion:
            await asyncio.sleep(0.2)
            raise ModelError("it is down at 10.0.0.1")

    async def program(gateway: Gateway) -> None:
        wrong: Any = anthropic.APIStatusError if dialect == "anthropic" else openai.APIError
        if dialect == "responses":
            async with openai_client(gateway) as client:
                events = [event async for event in await client.responses.create(model="m", input="a", stream=True)]
            assert [event.type for event in events[-2:]] == ["response.failed", "error"]
            assert events[-1].message == "The model could not be asked."
            return
        with pytest.raises(wrong, match="could not be asked"):
            _ = [part async for part in deltas(gateway, dialect)]

    trace = await trace_of(program, Fails())
    assert trace.error is not None
    assert (trace.outcome, trace.error.kind) == ("failed", "model")


@pytest.mark.parametrize("path", ROUTES)
async def test_what_is_held_grows_as_the_conversation_does(path: str) -> None:
    calls, size = 40, 20_000
    held: list[int] = []

    async def talk(gateway: Gateway, post: Post) -> None:
        said: list[Any] = []
        tracemalloc.start()
        for number in range(calls):
            said.append({"role": "user", "content": str(number % 10) * size})
            field = "input" if path == "/v1/responses" else "messages"
            await post(path, {"model": "m", "max_tokens": 5, field: said})
            said.append({"role": "assistant", "content": str(number)})
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()

    await trace_of(posting(talk), Scripted([str(number) for number in range(calls)]))
    assert held[0] < 10 * calls * size  # every prompt kept would be 20 times
