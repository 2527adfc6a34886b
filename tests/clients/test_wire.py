"""What a response says: every form of one is read, and whatever is none is the endpoint's failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envkit import Endpoint, ModelError
from envkit.clients.base import Completion, Request
from envkit.clients.retry import LONGEST_RETRY_AFTER, Retryable, retry_after
from envkit.clients.stream import whole
from envkit.clients.wire import completion, refusal
from envkit.errors import AnswerTooLong, ContextOverflow

ENDPOINT = Endpoint(url="http://h/v1")
NAMES = st.sampled_from([
    "choices", "message", "content", "tool_calls", "function", "name", "arguments", "id", "index", "usage",
    "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details", "reasoning",
    "reasoning_details", "finish_reason", "delta", "error", "prompt_token_ids", "token_ids", "logprobs", "logprob",
    "meta_info", "output_token_logprobs", "metadata", "model",
])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5)
ANY_JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=30
)
CHOICE = st.fixed_dictionaries(
    {"message": st.fixed_dictionaries({"content": st.text(max_size=5)}) | ANY_JSON},
    optional={"token_ids": ANY_JSON, "logprobs": ANY_JSON, "meta_info": ANY_JSON, "finish_reason": ANY_JSON},
)
NEARLY = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2)},
    optional={"usage": ANY_JSON, "prompt_token_ids": ANY_JSON, "error": ANY_JSON, "metadata": ANY_JSON},
)
SGLANG = {
    "choices": [
        {
            "message": {"content": "ab"},
            "prompt_token_ids": [5, 6],
            "meta_info": {"output_token_logprobs": [[-0.5, 97, None], [-0.25, 98, "b"]], "weight_version": "step-9"},
            "logprobs": {"content": [{"token": "a", "logprob": -0.5}]},
        }
    ],
}


@given(ANY_JSON | NEARLY, st.booleans())
def test_whatever_comes_is_an_answer_or_the_endpoints_failure(raw: Any, tokens: bool) -> None:
    try:
        read = completion(raw, Request([], tokens=tokens), ENDPOINT)
    except ModelError:
        return
    assert isinstance(read, Completion)
    assert isinstance(read.message.text + read.message.thinking + read.finish_reason, str)
    assert not tokens or len(read.completion_ids or ()) == len(read.logprobs or ())


@given(st.lists(ANY_JSON | st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"delta": ANY_JSON}))})))
async def test_whatever_streams_is_an_answer_or_the_endpoints_failure(chunks: list[Any]) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield b"data: " + orjson.dumps(chunk) + b"\n\n"

    try:
        completion(await whole(parts(), ENDPOINT), Request([]), ENDPOINT)
    except ModelError:
        return


def test_sglang_gives_its_tokens_in_its_own_form() -> None:
    read = completion(SGLANG, Request([], tokens=True), ENDPOINT)
    assert read.prompt_ids is not None
    assert read.completion_ids is not None
    assert read.logprobs is not None
    assert (read.prompt_ids.tolist(), read.completion_ids.tolist()) == ([5, 6], [97, 98])
    assert (read.logprobs.tolist(), read.version) == ([-0.5, -0.25], "step-9")


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 4600 tokens (4500 in the messages, "
        "100 in the completion).",
        "'max_tokens' or 'max_completion_tokens' is too large: 500. This model's maximum context length is 4096 tokens "
        "and your request has 3900 input tokens (500 > 4096 - 3900).",
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 "
        "tokens and your request has 4096 input tokens (5000 > 4096 - 4096).",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease input length",
        "The decoder prompt (length 8357) is longer than the maximum model length of 8192.",
        "The input (516368 tokens) is longer than the model's context length (262144 tokens).",
        "Requested token count exceeds the model's maximum context length of 4096 tokens.",
        "Input length 131393 exceeds the maximum allowed input length of 131040 tokens.",
        "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
        "prompt is too long: 215000 tokens > 200000 maximum",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens",
    ],
)
def test_each_engines_words_for_a_prompt_too_long(said: str) -> None:
    for body in ({"error": {"message": said}}, {"object": "error", "message": said, "code": 400}, {"detail": said}):
        error = refusal(400, orjson.dumps(body).decode(), ENDPOINT)
        assert isinstance(error, ContextOverflow)
        assert said in str(error)
    with pytest.raises(ContextOverflow):  # a gateway's, under a status of success
        completion({"error": {"message": said, "code": 400}}, Request([]), ENDPOINT)


@pytest.mark.parametrize(
    "said",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 32768. This model's maximum context length is 4096 "
        "tokens and your request has 45 input tokens (32768 > 4096 - 45).",
        "This model's maximum context length is 4096 tokens. However, you requested 32768 output tokens and your "
        "prompt contains at least 1 input tokens, for a total of at least 32769 tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 32768 output tokens and your "
        "prompt contains 99999 characters (more than 0 characters, which is the upper bound for 0 input tokens).",
        "Requested token count exceeds the model's maximum context length of 4,096 tokens. You requested a total of "
        "33000 tokens: 232 tokens from the input messages and 32768 tokens for the completion.",
        "This model's maximum context length is 4096 tokens. However, you requested 32968 tokens (200 in the messages, "
        "32768 in the completion).",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 200 `inputs` tokens and "
        "32768 `max_new_tokens`",
    ],
)
def test_more_asked_for_an_answer_than_the_window_holds_is_no_overflow(said: str) -> None:
    error = refusal(400, orjson.dumps({"error": {"message": said}}).decode(), ENDPOINT)
    assert (type(error), error.retryable, error.status) == (AnswerTooLong, False, 400)
    assert "may take 32768 tokens (max_tokens) of a context of 4096" in str(error)
    assert "--max-tokens" in str(error)


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens is too large: 32768. This model supports at most 4096 completion tokens.",
        "Input validation error: `max_new_tokens` must be <= 192. Given: 250.",
    ],
)
def test_more_asked_for_an_answer_than_the_model_writes_is_no_overflow(said: str) -> None:
    error = refusal(400, orjson.dumps({"error": {"message": said}}).decode(), ENDPOINT)
    assert type(error) is AnswerTooLong
    assert str(error) == f"http://h/v1: {said} Ask for fewer with --max-tokens."


def test_what_would_fit_with_less_room_for_the_answer() -> None:
    def overflow(said: str) -> ContextOverflow:
        error = refusal(400, orjson.dumps({"message": said}).decode(), ENDPOINT)
        assert isinstance(error, ContextOverflow)
        return error

    window = "This model's maximum context length is 4096 tokens. However, you requested"
    counted = overflow(f"{window} 5000 tokens (4000 in the messages, 1000 in the completion).")
    assert (counted.would_fit(at_most=9999), "take 1000 tokens" in counted.advice) == (True, True)
    assert not overflow(f"{window} 6000 tokens (5000 in the messages, 1000 in the completion).").would_fit(at_most=10)
    bounded = overflow(f"{window} 1000 output tokens and your prompt contains at least 3097 input tokens.")
    assert (bounded.would_fit(at_most=4095), bounded.would_fit(at_most=4096)) == (True, False)
    assert not overflow("prompt is too long: 215000 tokens > 200000 maximum").would_fit(at_most=1)
    given = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given:"
    assert overflow(f"{given} 1244 `inputs` tokens and 1000 `max_new_tokens`").would_fit(at_most=9999)
    assert not overflow(f"{given} 3474 `inputs` tokens and 60 `max_new_tokens`").would_fit(at_most=9999)
    assert not overflow("Input validation error: `inputs` must have less than 1024 tokens. Given: 1168").would_fit(1)


def test_another_400_is_no_overflow_and_says_the_servers_own_sentence() -> None:
    error = refusal(400, '{"error": {"message": "temperature must be\\u001b[31m positive", "code": 7}}', ENDPOINT)
    assert type(error) is ModelError
    assert str(error) == "http://h/v1 answered 400: temperature must be positive"
    assert len(str(refusal(422, "x" * 10_000, ENDPOINT))) < 400


def test_an_error_under_a_status_of_success_is_tried_again() -> None:
    with pytest.raises(Retryable, match="the upstream is overloaded"):
        completion({"error": {"message": "the upstream is overloaded", "code": 502}}, Request([]), ENDPOINT)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("2", 2), ("0.5", 0.5), ("-3", 0), ("soon", None), ("nan", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 99 Oct 2015", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_a_date_to_come_is_so_many_seconds_away() -> None:
    seconds = retry_after("Wed, 21 Oct 2099 07:28:00 GMT")
    assert seconds is not None
    assert seconds > LONGEST_RETRY_AFTER
