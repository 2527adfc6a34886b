"""Chat completions through the gateway, as the `openai` SDK asks for them and reads them."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from external import Model, anthropic_client, calling, linear, openai_client, trace_of

from envkit import Image
from envkit.clients.base import Completion
from envkit.clients.endpoint import Endpoint
from envkit.clients.http import HTTPClient
from envkit.gateway.gateway import Gateway
from envkit.types import Text, Usage
from server import Server

ODD = '{"a": 6,"b":7 , "note":"\\u00e9"}'
"""Arguments that no JSON writer would write so."""

MULTIPLY: Any = {
    "type": "function",
    "function": {"name": "multiply", "description": "a * b", "parameters": {"type": "object", "properties": {}}},
}


@pytest.mark.parametrize("streams", [False, True])
async def test_a_programs_loop_becomes_a_line_of_turns(streams: bool) -> None:
    async def program(gateway: Gateway) -> None:
        messages: list[Any] = [{"role": "user", "content": "6 * 7?"}]
        async with openai_client(gateway) as client:
            while True:
                asked: Any = {"model": "gpt-4o", "messages": messages, "tools": [MULTIPLY]}
                if streams:
                    async with client.chat.completions.stream(**asked) as stream:
                        reply = (await stream.get_final_completion()).choices[0]
                else:
                    reply = (await client.chat.completions.create(**asked)).choices[0]
                messages.append(reply.message.model_dump(exclude_none=True, exclude={"parsed"}))
                if not reply.message.tool_calls:
                    assert (reply.finish_reason, reply.message.content) == ("stop", "It is 42.")
                    return
                assert reply.finish_reason == "tool_calls"
                for call in reply.message.tool_calls:
                    assert (call.function.name, call.function.arguments) == ("multiply", ODD)
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": "42"})

    first = calling(("functions.multiply:0", "multiply", ODD), ("call 2", "multiply", ODD))
    model = Model(Completion(first, usage=Usage(prompt_tokens=5, completion_tokens=3)), "It is 42.")
    trace = await trace_of(program, model)
    assert (trace.outcome, len(trace.turns), linear(trace)) == ("completed", 2, True)
    assert trace.turns[0].tools == ("multiply",)
    assert trace.prompt(1)[1] == first
    assert model.sent(1)[1]["tool_calls"][0]["function"]["arguments"] == ODD
    assert model.requests[0].tools == [MULTIPLY]


async def test_usage_and_names_are_told() -> None:
    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            said = await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "a"}])
            assert (said.model, said.choices[0].message.content) == ("gpt-4o", "x")
            assert said.usage is not None
            assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens) == (7, 2, 9)
            chunks = await client.chat.completions.create(
                model="gpt-4o",
                messages=[{"role": "user", "content": "b"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            told = [chunk async for chunk in chunks]
            assert "".join(c.choices[0].delta.content or "" for c in told if c.choices) == "y"
            assert told[-1].usage is not None
            assert told[-1].usage.total_tokens == 9
            assert [model.id async for model in client.models.list()] == ["served-model"]
        async with anthropic_client(gateway) as client:
            assert [model.id async for model in client.models.list()] == ["served-model"]

    usage = Usage(prompt_tokens=7, completion_tokens=2)
    model = Model(*(Completion(calling(content=c), usage=usage) for c in "xy"))
    assert (await trace_of(program, model)).outcome == "completed"


async def test_reasoning_comes_in_its_field_and_goes_back_in_it_also_when_the_program_drops_it() -> None:
    """The dialect has no place for reasoning: a program that sends its reply back without it has not edited it."""

    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            messages: list[Any] = [{"role": "user", "content": "a"}]
            for keeps in (True, False, False):
                said = await client.chat.completions.create(model="m", messages=messages)
                message: Any = said.choices[0].message
                assert message.reasoning == f"thought {len(messages)}"
                shown = {"reasoning_content": message.reasoning} if keeps else {}
                messages += [{"role": "assistant", "content": message.content, **shown}]
                messages += [{"role": "user", "content": "again"}]
            edited: list[Any] = [*messages[:1], {**messages[1], "reasoning_content": "another thought"}, *messages[2:3]]
            await client.chat.completions.create(model="m", messages=edited)

    thoughts = [calling(content="ok", reasoning=f"thought {n}", reasoning_field="reasoning") for n in (1, 3, 5, 7)]
    model = Model(*thoughts)
    trace = await trace_of(program, model)
    assert [turn.parent for turn in trace.turns] == [None, 0, 1, None]
    assert [m.get("reasoning") for m in model.sent(2)] == [None, "thought 1", None, "thought 3", None]
    assert model.sent(3)[1]["reasoning_content"] == "another thought"


async def test_what_the_run_says_wins_over_the_program_and_the_rest_is_sent_and_recorded() -> None:
    asked: Any = {
        "model": "gpt-4o",
        "temperature": 0.1,
        "top_p": 0.2,
        "max_completion_tokens": 5,
        "seed": 1,
        "stop": ["END"],
        "frequency_penalty": 0.5,
        "store": True,
        "metadata": {"a": "b"},
        "reasoning_effort": "high",
        "parallel_tool_calls": False,
        "user": "me",
        "tools": [MULTIPLY],
        "tool_choice": {"type": "function", "function": {"name": "multiply"}},
        "extra_body": {"guided_regex": ".*", "chat_template": "{{x}}", "return_token_ids": True},
    }

    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            await client.chat.completions.create(messages=[{"role": "user", "content": "a"}], **asked)

    with Server() as server:
        client = HTTPClient(Endpoint(url=server.url, model="imposed", sampling={"frequency_penalty": 0.0}))
        services = {"sampling": {"temperature": 0.9, "max_tokens": 50}, "seed": 3}
        trace = await trace_of(program, client, services, sampling={"top_p": 0.7})
        await client.close()
    kept = {
        "temperature": 0.9,
        "top_p": 0.7,
        "max_tokens": 50,
        "seed": trace.seed,
        "stop": ["END"],
        "frequency_penalty": 0.0,
        "tool_choice": asked["tool_choice"],
        "parallel_tool_calls": False,
    }
    (body,) = server.bodies
    assert body == {**kept, "model": "imposed", "messages": [{"role": "user", "content": "a"}], "tools": [MULTIPLY]}
    assert trace.turns[0].sampling == kept


def _allowed(*names: str, mode: str = "auto") -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("choice", "offered", "sampling"),
    [
        (_allowed("multiply"), ("multiply",), {}),
        (_allowed("multiply", mode="required"), ("multiply",), {"tool_choice": "required"}),
        (_allowed(), (), {}),
    ],
)
async def test_only_the_allowed_tools_are_offered(
    choice: Any, offered: tuple[str, ...], sampling: dict[str, Any]
) -> None:
    other: Any = {"type": "function", "function": {"name": "other"}}

    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            asked: Any = {"messages": [{"role": "user", "content": "a"}], "tools": [MULTIPLY, other]}
            await client.chat.completions.create(model="m", tool_choice=choice, **asked)

    model = Model("x")
    trace = await trace_of(program, model)
    assert (trace.turns[0].tools, model.requests[0].sampling) == (offered, sampling)


async def test_a_refusal_is_text_and_a_model_is_known_by_any_name() -> None:
    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            part: Any = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
            whole: Any = {"role": "assistant", "content": None, "refusal": "never"}
            ask: Any = {"role": "user", "content": "a"}
            await client.chat.completions.create(model="m", messages=[ask, part, ask, whole, ask])
            assert (await client.models.retrieve("owner/name")).id == "owner/name"
        async with anthropic_client(gateway) as claude:
            assert (await claude.models.retrieve("served-model")).id == "served-model"

    trace = await trace_of(program, Model("x"))
    assert [message.text for message in trace.prompt(0)] == ["a", "no", "a", "never", "a"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"logprobs": True}, "logprobs: they are for the record"),
        ({"n": 2}, "n: one answer a call is recorded"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"temperature": -1}, "temperature"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "needs the tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages.0.content.0: the type 'input_audio' is not read here",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type"),
        ({"tools": [MULTIPLY], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "no tool 'x'"),
        ({"tools": [MULTIPLY], "tool_choice": _allowed("x")}, "no tool 'x'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}]},
            "no URL is fetched here",
        ),
    ],
)
async def test_what_would_break_the_record_is_refused_and_not_recorded(wrong: dict[str, Any], said: str) -> None:
    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            body: Any = {"model": "m", "messages": [{"role": "user", "content": "a"}], **wrong}
            with pytest.raises(openai.BadRequestError, match=said):
                await client.chat.completions.create(**body)

    trace = await trace_of(program, Model())
    assert (trace.outcome, trace.turns) == ("completed", [])


async def test_images_and_parts_are_the_same_message_however_they_are_written() -> None:
    """Programs that mark their last message for a cache send it as parts there, and as text a call later."""

    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
            shown: Any = {"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}
            marked = {"type": "text", "text": "and now?", "cache_control": {"type": "ephemeral"}}
            await client.chat.completions.create(model="m", messages=[shown])
            so_far: list[Any] = [shown, {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}]
            await client.chat.completions.create(model="m", messages=[*so_far, {"role": "user", "content": [marked]}])
            so_far += [{"role": "user", "content": "and now?"}, {"role": "assistant", "content": "a dog"}]
            await client.chat.completions.create(model="m", messages=[*so_far, {"role": "user", "content": "thanks"}])

    trace = await trace_of(program, Model("a cat", "a dog", "bye"))
    assert trace.error is None
    assert linear(trace)
    assert trace.prompt(0)[0].content == (Text(text="what?"), Image.of(b"\x89PNG"))


async def test_an_append_only_program_gives_one_sample() -> None:
    async def program(gateway: Gateway) -> None:
        messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "go"}]
        async with openai_client(gateway) as client:
            for _ in range(3):
                said = await client.chat.completions.create(model="m", messages=messages, tools=[MULTIPLY])
                messages.append(said.choices[0].message.model_dump(exclude_none=True))
                calls = said.choices[0].message.tool_calls or []
                messages += [{"role": "tool", "tool_call_id": call.id, "content": "42"} for call in calls]

    def reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
        call = {"id": f"c{len(messages)}", "type": "function", "function": {"name": "multiply", "arguments": ODD}}
        return {"content": f"step {len(messages)}", "reasoning": "hm", "tool_calls": [call]}

    with Server(reply) as server:
        client = HTTPClient(Endpoint(url=server.url, model="m"))
        trace = await trace_of(program, client, {"tokens": True})
        await client.close()
    assert trace.error is None
    (sample,) = trace.samples()
    assert "".join(map(chr, sample.ids)) == "Be brief.gostep 242step 442step 6"
    assert (
        "".join(chr(i) for i, trained in zip(sample.ids, sample.mask, strict=True) if trained) == "step 2step 4step 6"
    )
