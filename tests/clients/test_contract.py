"""One contract for both clients of a served model, held against a real server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import Callable
from typing import Any

import openai
import pytest

from envkit import Endpoint, Message, ModelError
from envkit.clients.base import Client, Completion, Request
from envkit.clients.http import HTTPClient
from envkit.clients.sdk import SDKClient
from envkit.errors import ContextOverflow
from envkit.limits import Deadline
from server import Fault, Kind, Server

Make = Callable[..., Client]
KEY = "a-key-that-nobody-may-see"


def http(url: str, **options: Any) -> Client:
    return HTTPClient(Endpoint(url=url, model="m", **options))


def sdk(url: str, **options: Any) -> Client:
    return SDKClient(openai.AsyncOpenAI(base_url=url, api_key=KEY), "m", **options)


@pytest.fixture(params=[http, sdk], ids=["http", "sdk"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr("envkit.clients.retry.FIRST_WAIT", 0.01)
    return request.param


def asked(*messages: Message, **more: Any) -> Request:
    return Request(messages=messages or (Message.user("hello"),), **more)


async def ask(client: Client, request: Request | None = None) -> Completion:
    try:
        return await client.complete(request or asked())
    finally:
        await client.close()


async def test_a_plain_answer_with_usage(make: Make) -> None:
    with Server(lambda _: "hi") as server:
        completion = await ask(
            make(server.url, input_price=1.0, output_price=2.0), asked(sampling={"temperature": 0.5})
        )
    assert completion.message == Message.assistant("hi")
    assert completion.finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (5, 2)
    assert completion.cost == pytest.approx((5 * 1 + 2 * 2) / 1e6)
    assert server.bodies == [
        {"model": "m", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}
        | ({} if "stream" not in server.bodies[0] else {"stream": False})
    ]


async def test_what_is_unset_is_not_sent(make: Make) -> None:
    with Server() as server:
        await ask(make(server.url))
    assert {name for name in server.bodies[0] if name != "stream"} == {"model", "messages"}


async def test_the_requests_sampling_wins_over_the_endpoints(make: Make) -> None:
    with Server() as server:
        client = make(server.url, sampling={"temperature": 0.1, "top_p": 0.5}, extra_body={"top_k": 20, "min_p": 0.3})
        completion = await ask(client, asked(sampling={"temperature": 0.9, "min_p": 0.2}))
    assert (server.bodies[0]["temperature"], server.bodies[0]["min_p"]) == (0.9, 0.2)
    assert (server.bodies[0]["top_p"], server.bodies[0]["top_k"]) == (0.5, 20)
    assert completion.sampling == {"temperature": 0.9, "top_p": 0.5, "min_p": 0.2}


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_call_arguments_stay_byte_for_byte(make: Make, stream: bool) -> None:
    arguments = '{"b":  2.0, "a": "é\\u00e9", "a": 1}'
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    with Server(lambda _: {"tool_calls": [call]}) as server:
        completion = await ask(make(server.url, stream=stream))
        again = asked(Message.user("x"), completion.message, Message.tool("3", "c1"))
        await ask(make(server.url, stream=stream), again)
    assert completion.message.tool_calls[0].arguments == arguments
    assert server.bodies[1]["messages"][1]["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("field", "value"),
    [("reasoning", "hm"), ("reasoning_content", "hm"), ("reasoning_details", [{"type": "text", "text": "hm"}])],
)
async def test_reasoning_is_kept_apart_and_echoed_in_its_own_field(
    make: Make, field: str, value: Any, stream: bool
) -> None:
    with Server(lambda _: {"content": "5", field: value}) as server:
        completion = await ask(make(server.url, stream=stream))
        await ask(make(server.url), asked(Message.user("x"), completion.message))
    assert (completion.message.text, completion.message.thinking) == ("5", "hm")
    assert server.bodies[1]["messages"][1][field] == value


@pytest.mark.parametrize("stream", [False, True])
async def test_token_ids_and_logprobs(make: Make, stream: bool) -> None:
    with Server(lambda _: {"content": "ab", "fields": {"system_fingerprint": "v7"}}) as server:
        completion = await ask(make(server.url, stream=stream), asked(tokens=True))
    assert completion.prompt_ids is not None
    assert completion.completion_ids is not None
    assert completion.logprobs is not None
    assert completion.prompt_ids.tolist() == [ord(c) for c in "hello"]
    assert completion.completion_ids.tolist() == [97, 98]
    assert all(math.isclose(p, -i / 1000, rel_tol=1e-6) for p, i in zip(completion.logprobs, (97, 98), strict=True))
    assert completion.version == "v7"


def with_tokens(**choice: Any) -> dict[str, Any]:
    return {"fields": {"choices": [{"message": {"content": "a"}, **choice}]}}


@pytest.mark.parametrize(
    "broken",
    [
        {"fields": {"prompt_token_ids": None}},
        with_tokens(token_ids=[1], logprobs=None),
        with_tokens(token_ids=[1, 2], logprobs={"content": [{"logprob": -1}]}),
        with_tokens(token_ids=[1], logprobs={"content": [{"logprob": None}]}),
    ],
)
async def test_missing_ids_or_logprobs_are_an_error_never_zero(make: Make, broken: dict[str, Any]) -> None:
    with Server(lambda _: {"content": "a", **broken}) as server:
        with pytest.raises(ModelError, match=r"token ids|logprob") as caught:
            await ask(make(server.url), asked(tokens=True))
    assert not caught.value.retryable


FAULTS: list[Kind] = ["429", "500", "503", "reset", "hang", "trickle", "garbage", "empty", "null", "truncated"]
STREAM_FAULTS: list[Kind] = ["cut-stream", "reset-stream", "garbage-stream", "error-stream", "hang", "500"]


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_fault_three_times_in_a_row_is_survived(make: Make, kind: Kind) -> None:
    with Server(lambda _: "hi", faults=[Fault(kind)]) as server:
        completion = await ask(make(server.url, request_timeout=1.0 if kind in ("hang", "trickle") else None))
    assert completion.message.content == "hi"
    assert completion.retries == 3


@pytest.mark.parametrize("kind", STREAM_FAULTS)
async def test_a_stream_that_breaks_is_asked_again(make: Make, kind: Kind) -> None:
    with Server(lambda _: "hello", faults=[Fault(kind, most=2)]) as server:
        completion = await ask(make(server.url, stream=True, request_timeout=1.0 if kind == "hang" else None))
    assert (completion.message.content, completion.retries) == ("hello", 2)
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5


async def test_a_server_that_cannot_stream_answers_whole(make: Make) -> None:
    with Server(lambda _: "hello", streams=False) as server:
        completion = await ask(make(server.url, stream=True))
    assert (completion.message.content, completion.retries) == ("hello", 0)


async def test_a_streamed_line_may_be_of_any_length(make: Make) -> None:
    ids = list(range(400_000))
    with Server(lambda _: {"content": "ab", "fields": {"prompt_token_ids": ids}}) as server:
        completion = await ask(make(server.url, stream=True), asked(tokens=True))
    assert completion.prompt_ids is not None
    assert completion.prompt_ids.tolist() == ids


async def test_an_answer_that_the_engine_gave_up_is_asked_again(make: Make) -> None:
    said = iter([{"content": "hal", "finish_reason": "abort"}, {"content": "half", "finish_reason": "error"}])
    with Server(lambda _: next(said, "whole")) as server:
        completion = await ask(make(server.url))
    assert (completion.message.content, completion.retries) == ("whole", 2)


async def test_retry_after_is_kept(make: Make) -> None:
    with Server(faults=[Fault("429", most=2)], retry_after="0.2") as server:
        started = time.monotonic()
        await ask(make(server.url))
    assert time.monotonic() - started >= 0.4


async def test_a_key_that_the_server_repeats_is_not_shown(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVKIT_API_KEY", KEY)
    with (
        Server(faults=[Fault("echo")]) as server,
        pytest.raises(ModelError, match="a strange request: Bearer") as caught,
    ):
        await ask(make(server.url))
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("kind", "status"), [("500", 500), ("garbage", None), ("reset", None)])
async def test_a_fault_that_stays_is_a_retryable_model_error(make: Make, kind: Kind, status: int | None) -> None:
    with Server(faults=[Fault(kind, most=99)]) as server:
        with pytest.raises(ModelError) as caught:
            await ask(make(server.url, max_retries=2))
    assert (caught.value.retryable, caught.value.status) == (True, status)
    assert sum(server.calls.values()) == 3
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("kind", "status"), [("400", 400), ("401", 401)])
async def test_what_no_retry_mends_is_not_tried_again(make: Make, kind: Kind, status: int) -> None:
    with Server(faults=[Fault(kind, most=99)]) as server:
        with pytest.raises(ModelError) as caught:
            await ask(make(server.url))
    assert (caught.value.retryable, caught.value.status) == (False, status)
    assert sum(server.calls.values()) == 1


async def test_a_context_overflow_has_an_error_of_its_own(make: Make) -> None:
    with Server(faults=[Fault("overflow", most=99)]) as server, pytest.raises(ContextOverflow):
        await ask(make(server.url))


async def test_nobody_there_is_a_retryable_model_error(make: Make) -> None:
    with Server() as server:
        pass
    with pytest.raises(ModelError) as caught:
        await ask(make(server.url, max_retries=1))
    assert caught.value.retryable


async def test_a_cancelled_request_leaves_no_connection(make: Make) -> None:
    with Server(faults=[Fault("hang", most=99)]) as server:
        client = make(server.url)
        running = [asyncio.create_task(client.complete(asked())) for _ in range(5)]
        await _until(lambda: server.live == 5)
        for task in running:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        await _until(lambda: server.live == 0)
        assert server.gone == 5
        await client.close()


async def test_the_clock_stands_still_between_tries(make: Make) -> None:
    with Server(lambda _: "hi", faults=[Fault("hang")]) as server:
        client = make(server.url, request_timeout=0.2)
        async with asyncio.timeout(0.5) as scope:
            completion = await client.complete(asked(deadline=Deadline(scope)))
        await client.close()
    assert completion.retries == 3


async def test_no_more_than_max_in_flight_are_asked_at_once_and_the_queue_stops_the_clock(make: Make) -> None:
    async def one(client: Client, n: int) -> None:
        async with asyncio.timeout(0.5) as scope:
            await client.complete(asked(Message.user(str(n)), deadline=Deadline(scope)))

    with Server(latency=0.1) as server:
        client = make(server.url, max_in_flight=3)
        await asyncio.gather(*(one(client, n) for n in range(24)))
        await client.close()
    assert server.most == 3


async def test_who_waits_to_try_again_holds_no_place(make: Make) -> None:
    with Server(faults=[Fault("429")], retry_after="60") as server:
        client = make(server.url, max_in_flight=1)
        waiting = asyncio.ensure_future(client.complete(asked(Message.user("first"))))
        await _until(lambda: server.calls.total() == 1 and server.live == 0)
        server.faults.clear()
        done = await asyncio.gather(*(client.complete(asked(Message.user(str(n)))) for n in range(4)))
        assert [completion.retries for completion in done] == [0, 0, 0, 0]
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        await client.close()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)
