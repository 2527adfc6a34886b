"""Messages through the gateway, as the `anthropic` SDK asks for them and reads them."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from external import Model, anthropic_client, calling, linear, trace_of

from envkit import Image
from envkit.clients.base import Completion
from envkit.clients.endpoint import Endpoint
from envkit.clients.http import HTTPClient
from envkit.gateway.gateway import Gateway
from envkit.types import Text, Usage
from server import Server

ODD = '{"a": 6,"b":7 , "note":"\\u00e9"}'
MULTIPLY: Any = {"name": "multiply", "description": "a * b", "input_schema": {"type": "object", "properties": {}}}
WEB: Any = {"type": "web_search_20250305", "name": "web_search"}
CACHED = {"cache_control": {"type": "ephemeral"}}


async def ask(gateway: Gateway, *, streams: bool, **body: Any) -> Any:
    """The message, whole or put together from a stream by the SDK."""
    body = {"model": "claude", "max_tokens": 1000, **body}
    async with anthropic_client(gateway) as client:
        if not streams:
            return await client.messages.create(**body)
        async with client.messages.stream(**body) as stream:
            return await stream.get_final_message()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("thinking", [{"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}])
async def test_a_programs_blocks_become_a_line_of_turns(streams: bool, thinking: dict[str, Any]) -> None:
    """Thinking is shown to a program that asked for it, and goes back to the model in either case."""

    async def program(gateway: Gateway) -> None:
        history: list[Any] = [{"role": "user", "content": "6 * 7?"}]
        system = [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=abc;"},
            {"type": "text", "text": "You multiply."},
            {"type": "text", "text": "Be brief.", **CACHED},
        ]
        while True:
            asked: Any = {
                "system": system,
                "thinking": thinking,
                "tools": [MULTIPLY, WEB],
                "metadata": {"user_id": "a"},
            }
            said = await ask(gateway, streams=streams, messages=history, **asked)
            shown = [block.type for block in said.content]
            history.append({"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in said.content]})
            uses = [block for block in said.content if block.type == "tool_use"]
            if not uses:
                assert (said.stop_reason, shown, said.content[-1].text) == ("end_turn", ["text"], "It is 42.")
                return
            expected = ["thinking", "text", "tool_use", "tool_use"]
            assert shown == (expected if thinking["type"] == "enabled" else expected[1:])
            assert (said.stop_reason, uses[0].input) == ("tool_use", {"a": 6, "b": 7, "note": "é"})
            answers = [{"type": "tool_result", "tool_use_id": use.id, "content": "42"} for use in uses]
            history.append({"role": "user", "content": [*answers, {"type": "text", "text": "go on", **CACHED}]})

    thought = {"reasoning": "I multiply.", "reasoning_field": "reasoning"}
    first = calling(("toolu.1", "multiply", ODD), ("toolu.2", "multiply", ""), content="Well,", **thought)
    model = Model(first, "It is 42.")
    trace = await trace_of(program, model)
    assert (len(trace.turns), linear(trace), trace.turns[0].tools) == (2, True, ("multiply",))
    assert trace.prompt(1)[2] == first
    assert [message.get("content") for message in model.sent(1)] == [
        "You multiply.\n\nBe brief.", "6 * 7?", "Well,", "42", "42", "go on"
    ]  # fmt: skip


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("arguments", ["{not json", "[1, 2]", '"text"', '{"a": 1'])
async def test_arguments_that_are_no_object_come_back_as_the_model_wrote_them(streams: bool, arguments: str) -> None:
    async def program(gateway: Gateway) -> None:
        history: list[Any] = [{"role": "user", "content": "6 * 7?"}]
        said = await ask(gateway, streams=streams, messages=history, tools=[MULTIPLY])
        (use,) = said.content
        assert use.input == {"input": arguments}
        history.append({"role": "assistant", "content": [use.model_dump(exclude_none=True)]})
        wrong = {"type": "tool_result", "tool_use_id": use.id, "content": "no object", "is_error": True}
        await ask(gateway, streams=streams, messages=[*history, {"role": "user", "content": [wrong]}], tools=[MULTIPLY])

    first = calling(("t1", "multiply", arguments))
    trace = await trace_of(program, Model(first, "sorry"))
    assert linear(trace)
    assert trace.prompt(1)[1] == first


async def test_thinking_that_a_server_left_in_the_content_is_told_apart_and_goes_back_whole() -> None:
    async def program(gateway: Gateway) -> None:
        history: list[Any] = [{"role": "user", "content": "a"}]
        said = await ask(gateway, streams=False, messages=history, thinking={"type": "adaptive"})
        assert [block.type for block in said.content] == ["thinking", "text"]
        assert said.content[1].text == "answer"
        history.append({"role": "assistant", "content": [block.model_dump() for block in said.content]})
        await ask(gateway, streams=False, messages=[*history, {"role": "user", "content": "b"}])

    model = Model("<think>\nhm\n</think>\n\nanswer", "x")
    assert linear(await trace_of(program, model))
    assert model.sent(1)[1]["content"] == "<think>\nhm\n</think>\n\nanswer"


@pytest.mark.parametrize("streams", [False, True])
async def test_usage_reasons_and_sampling_are_translated(streams: bool) -> None:
    async def program(gateway: Gateway) -> None:
        sampling = {"temperature": 0.5, "top_k": 5}  # which the SDK has no words for any more, and programs say
        more: Any = {"extra_body": sampling, "stop_sequences": ["END"], "tools": [MULTIPLY]}
        choice: Any = {"type": "any", "disable_parallel_tool_use": True}
        hello: Any = [{"role": "user", "content": "a"}]
        said = await ask(gateway, streams=streams, messages=hello, tool_choice=choice, **more)
        assert (said.stop_reason, said.model, said.content[0].text) == ("max_tokens", "claude", "x")
        usage = said.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (4, 3, 2)
        async with anthropic_client(gateway) as client:
            counted = await client.messages.count_tokens(model="claude", messages=hello, tools=[MULTIPLY])
            assert 10 < counted.input_tokens < 100

    usage = Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=3)
    model = Model(Completion(calling(content="x"), "length", usage))
    trace = await trace_of(program, model)
    assert trace.outcome == "completed"  # the cap was the program's own
    assert model.requests[0].sampling == {
        "max_tokens": 1000,
        "temperature": 0.5,
        "stop": ["END"],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }


async def test_a_system_message_amid_the_conversation_is_a_users() -> None:
    """Claude Code sends such messages, and most chat templates refuse them."""

    async def program(gateway: Gateway) -> None:
        amid: Any = [{"role": "user", "content": "a"}, {"role": "system", "content": "Agents: none."}]
        await ask(gateway, streams=False, messages=amid, system="Be brief.")
        await ask(gateway, streams=False, messages=amid)

    model = Model("x", "y")
    await trace_of(program, model)
    amid = [{"role": "user", "content": "a"}, {"role": "user", "content": "Agents: none."}]
    assert [model.sent(0), model.sent(1)] == [[{"role": "system", "content": "Be brief."}, *amid], amid]


async def test_images_reach_the_model_also_as_results() -> None:
    async def program(gateway: Gateway) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}
        shown: Any = {"type": "image", "source": source}
        use: Any = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
        result: Any = {"type": "tool_result", "tool_use_id": "t1", "content": [shown]}
        asked: Any = {"role": "user", "content": [{"type": "text", "text": "what?"}, shown]}
        then: Any = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        await ask(gateway, streams=False, messages=[asked, *then])

    trace = await trace_of(program, Model("a cat"))
    assert trace.prompt(0)[0].content == (Text(text="what?"), Image.of(b"\x89PNG"))
    assert trace.prompt(0)[2].content == (Image.of(b"\x89PNG"),)


async def test_documents_of_text_are_read_also_as_results() -> None:
    async def program(gateway: Gateway) -> None:
        source = {"type": "text", "media_type": "text/plain", "data": "hello"}
        shown: Any = {"type": "document", "title": "Greeting", "source": source}
        use: Any = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
        result: Any = {"type": "tool_result", "tool_use_id": "t1", "content": [shown]}
        asked: Any = {"role": "user", "content": [{"type": "text", "text": "what?"}, shown]}
        then: Any = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        await ask(gateway, streams=False, messages=[asked, *then])

    trace = await trace_of(program, Model("a greeting"))
    assert trace.prompt(0)[0].content == (Text(text="what?"), Text(text="Greeting\n\nhello"))
    assert trace.prompt(0)[2].content == "Greeting\n\nhello"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]}, "cannot be begun"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "send its input_schema"),
        ({"tool_choice": {"type": "tool", "name": "x"}, "tools": [MULTIPLY]}, "no tool 'x'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            "content.0: the type 'audio' is not read here",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
            "source must be text: 'base64' is not read here",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "a"}]}]}, "not a user's"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://a"}}]}
                ]
            },
            "no URL is fetched",
        ),
    ],
)
async def test_what_cannot_be_recorded_is_refused(wrong: dict[str, Any], said: str) -> None:
    async def program(gateway: Gateway) -> None:
        with pytest.raises(anthropic.BadRequestError, match=said):
            await ask(gateway, streams=False, **{"messages": [{"role": "user", "content": "a"}], **wrong})

    assert (await trace_of(program, Model())).turns == []


async def test_an_append_only_program_gives_one_sample() -> None:
    async def program(gateway: Gateway) -> None:
        history: list[Any] = [{"role": "user", "content": "go"}]
        for _ in range(3):
            said = await ask(gateway, streams=True, messages=history, system="Be brief.", tools=[MULTIPLY])
            history.append({"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in said.content]})
            result = {"type": "tool_result", "tool_use_id": said.content[-1].id, "content": "42"}
            history.append({"role": "user", "content": [result]})

    def reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
        assert all(call["function"]["arguments"] == ODD for m in messages for call in m.get("tool_calls", ()))
        call = {"id": f"c{len(messages)}", "type": "function", "function": {"name": "multiply", "arguments": ODD}}
        return {"content": f"step {len(messages)}", "reasoning": "hm", "tool_calls": [call]}

    with Server(reply) as server:
        client = HTTPClient(Endpoint(url=server.url, model="m"))
        trace = await trace_of(program, client, {"tokens": True})
        await client.close()
    (sample,) = trace.samples()
    trained = [chr(i) for i, trains in zip(sample.ids, sample.mask, strict=True) if trains]
    assert "".join(trained) == "step 2step 4step 6"
    assert all(m.get("reasoning") == "hm" for m in server.bodies[-1]["messages"] if m["role"] == "assistant")
