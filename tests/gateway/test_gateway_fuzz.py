"""Bodies that no program of good will sends: each is refused, or asked, answered and recorded like any other."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envkit.clients.wire import encoded
from envkit.gateway.asked import Answered, Refused
from envkit.gateway.http import ROUTES
from envkit.gateway.memory import Memory
from envkit.trace import Turn
from envkit.types import Message, ToolCall

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
IMAGE = "data:image/png;base64,iVBORw=="
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "a"},
                                         {"type": "image_url", "image_url": {"url": IMAGE}}]},
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1,
        "max_tokens": 5,
        "stop": ["a"],
        "n": 1,
    },
    "/v1/responses": {
        "model": "m",
        "instructions": "i",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"},
                                         {"type": "input_image", "image_url": IMAGE}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
            {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "custom", "name": "g"}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "include": ["reasoning.encrypted_content"],
        "previous_response_id": "resp_1",
        "stream": True,
        "max_output_tokens": 5,
    },
    "/v1/messages": {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "a"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "text", "text": "b"},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "1"}]},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "stop_sequences": ["x"],
        "stream": True,
    },
}  # fmt: skip

WORDS = st.sampled_from(["type", "role", "content", "text", "function", "assistant", "system", "tool", "f", "", "c1"])
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | WORDS
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4)
)
ARGUMENTS = (
    st.sampled_from(["", "{}", "[]", "null", '{"a": 1}', "{not", '{"input": "x"}', '"' * 3, "[" * 2000]) | st.text()
)
REPLIES = st.builds(
    lambda text, thought, calls: Message(
        role="assistant",
        content=text,
        reasoning=thought or None,
        reasoning_field="reasoning" if thought else None,
        tool_calls=tuple(ToolCall(id=i, name=name, arguments=a) for i, name, a in calls),
    ),
    st.text() | st.just("<think>a</think>b") | st.just("<think>a"),
    st.text(),
    st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["f", "g"]), ARGUMENTS), max_size=3),
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, part in inner for place in places(part, (*here, key)))]


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """The body with up to three of its values replaced by any other."""
    body: dict[str, Any] = copy.deepcopy(BODIES[path])
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(places(body)[1:] or [("messages",)]))
        holder: Any = body
        for step in place[:-1]:
            holder = holder[step]
        holder[place[-1]] = draw(VALUES)
    return encoded(body)


@pytest.mark.parametrize("path", BODIES)
def test_the_body_that_is_bent_is_asked_as_it_is(path: str) -> None:
    assert ROUTES[path].asked(copy.deepcopy(BODIES[path])).stream


@pytest.mark.parametrize("path", BODIES)
@settings(max_examples=100, deadline=None)
@given(data=st.data(), reply=REPLIES)
def test_any_body_is_refused_or_asked_answered_and_recorded(path: str, data: st.DataObject, reply: Message) -> None:
    dialect = ROUTES[path]
    try:
        body = orjson.loads(data.draw(bodies(path)))
    except orjson.JSONDecodeError:
        return  # NaN and lone surrogates are refused before a dialect sees them
    try:
        asked = dialect.asked(body)
    except Refused as refused:
        orjson.dumps(dialect.error(refused))
        return
    memory = Memory()
    memory.keep(asked.messages, reply)
    prompt = memory.restored([*asked.messages, reply])
    assert prompt[-1] == reply
    turn = Turn(prompt=tuple(prompt), reply=reply, sampling=dict(asked.sampling))
    assert Turn.model_validate_json(turn.model_dump_json()) == turn
    assert orjson.dumps([[message.to_wire() for message in prompt], asked.tools, asked.sampling])
    answered = Answered(asked, turn, "1", 0)
    told = [dialect.answer(answered), *(event for _, event in dialect.opening(asked, "1", 0))]
    for part in [*told, *(event for _, event in dialect.events(answered))]:
        assert json.loads(encoded(part))


@pytest.mark.parametrize("path", BODIES)
@settings(max_examples=100, deadline=None)
@given(replies=st.lists(REPLIES, min_size=2, max_size=3))
def test_any_reply_that_is_sent_back_is_what_the_model_said(path: str, replies: list[Message]) -> None:
    """The next prompt is an exact extension, whatever the model wrote, in every dialect."""
    dialect, memory = ROUTES[path], Memory()
    body: dict[str, Any] = {"model": "m", "max_tokens": 5, "tools": BODIES[path]["tools"]}
    history: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
    said: list[Message] = [Message.user("a")]
    for reply in replies:
        asked = dialect.asked(copy.deepcopy({**body, "input" if path == "/v1/responses" else "messages": history}))
        prompt = memory.restored(asked.messages)
        assert prompt == said
        memory.keep(prompt, reply)
        answer = dialect.answer(Answered(asked, Turn(reply=reply), str(len(said)), 0))
        if path == "/v1/chat/completions":
            history.append(answer["choices"][0]["message"])
        elif path == "/v1/messages":
            history.append({"role": "assistant", "content": answer["content"]})
        else:
            history += answer["output"]
        history.append({"role": "user", "content": "more"})
        said += [reply, Message.user("more")]
