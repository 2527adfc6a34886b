"""Responses through the gateway, as the `openai` SDK asks for them and reads them."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from external import Model, calling, linear, openai_client, trace_of

from envkit import Image, Message
from envkit.clients.base import Completion
from envkit.gateway.gateway import Gateway
from envkit.types import Text, Usage

ODD = '{"a": 6,"b":7}'
MULTIPLY: Any = {"type": "function", "name": "multiply", "parameters": {"type": "object"}, "strict": False}
WEB: Any = {"type": "web_search"}


async def ask(gateway: Gateway, *, streams: bool, **body: Any) -> Any:
    """The response, whole or put together from a stream by the SDK."""
    async with openai_client(gateway) as client:
        if not streams:
            return await client.responses.create(model="gpt-5", **body)
        async with client.responses.stream(model="gpt-5", **body) as stream:
            numbers = [event.sequence_number async for event in stream]
            assert numbers == list(range(len(numbers)))
            return await stream.get_final_response()


def items(response: Any) -> list[dict[str, Any]]:
    """The output as a program sends it back."""
    unsent = {"parsed", "parsed_arguments"}
    told = [item.model_dump(exclude_none=True, exclude=unsent) for item in response.output]
    for item in told:
        for part in item.get("content", ()):
            part.pop("parsed", None)
    return told


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("include", [[], ["reasoning.encrypted_content"]])
async def test_a_programs_items_become_a_line_of_turns(streams: bool, include: list[str]) -> None:
    async def program(gateway: Gateway) -> None:
        history: list[Any] = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "6 * 7?"}]
        asked: Any = {"instructions": "You multiply.", "tools": [MULTIPLY, WEB], "include": include, "store": False}
        while True:
            said = await ask(gateway, streams=streams, input=history, reasoning={"summary": "auto"}, **asked)
            assert said.status == "completed"
            told = items(said)
            if include:  # as programs do that take no content of reasoning back
                told = [{k: v for k, v in i.items() if i["type"] != "reasoning" or k != "content"} for i in told]
            history += told
            calls = [item for item in said.output if item.type == "function_call"]
            if not calls:
                assert said.output_text == "It is 42."
                return
            assert [call.arguments for call in calls] == [ODD, "{}"]
            assert [item.type for item in said.output] == ["reasoning", "message", "function_call", "function_call"]
            history += [{"type": "function_call_output", "call_id": c.call_id, "output": "42"} for c in calls]

    thought = {"reasoning": "I multiply.", "reasoning_field": "reasoning"}
    first = calling(("call_1", "multiply", ODD), ("call_2", "multiply", "{}"), content="Well,", **thought)
    model = Model(first, "It is 42.")
    trace = await trace_of(program, model)
    assert (len(trace.turns), linear(trace), trace.turns[0].tools) == (2, True, ("multiply",))
    assert model.sent(1)[0] == {"role": "system", "content": "You multiply.\n\nBe brief."}
    assert trace.prompt(1)[2] == first
    assert [m.tool_call_id for m in trace.prompt(1)[3:]] == ["call_1", "call_2"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_response_continues_another_of_this_gateway_alone(streams: bool) -> None:
    async def program(gateway: Gateway) -> None:
        first = await ask(gateway, streams=streams, input="one", instructions="Count.")
        second = await ask(gateway, streams=streams, input="two", instructions="Count.", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        await ask(gateway, streams=streams, input="other two", instructions="Count.", previous_response_id=first.id)
        with pytest.raises(openai.BadRequestError, match=r"resp_elsewhere.*not found") as refused:
            await ask(gateway, streams=streams, input="x", previous_response_id="resp_elsewhere")
        assert refused.value.code == "previous_response_not_found"

    model = Model(calling(content="1", reasoning="hm", reasoning_field="reasoning_content"), "2", "b")
    trace = await trace_of(program, model)
    assert [turn.parent for turn in trace.turns] == [None, 0, 0]
    assert model.sent(1) == [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1", "reasoning_content": "hm"},
        {"role": "user", "content": "two"},
    ]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_custom_tool_takes_text_and_the_model_sees_a_function(streams: bool) -> None:
    patch: Any = {"type": "custom", "name": "apply_patch", "description": "Patch.", "format": {"type": "text"}}
    given = '{"input": "*** Begin\\n"  }'

    async def program(gateway: Gateway) -> None:
        history: list[Any] = [{"role": "user", "content": "fix it"}]
        for _ in range(2):
            said = await ask(gateway, streams=streams, input=history, tools=[patch])
            history += items(said)
            calls = [item for item in said.output if item.type == "custom_tool_call"]
            history += [{"type": "custom_tool_call_output", "call_id": c.call_id, "output": "ok"} for c in calls]
        assert [item.get("input") for item in history] == [None, "*** Begin\n", None, "no json", None]

    first = calling(("c1", "apply_patch", given))
    trace = await trace_of(program, Model(first, calling(("c2", "apply_patch", "no json"))))
    assert linear(trace)
    assert trace.prompt(1)[1] == first


async def test_tools_of_a_namespace_are_called_there() -> None:
    plain: Any = {"type": "function", "name": "close", "parameters": {"type": "object"}}
    spaced: Any = {"type": "namespace", "name": "agents", "tools": [plain, WEB]}

    async def program(gateway: Gateway) -> None:
        history: list[Any] = [{"role": "user", "content": "close them"}]
        said = await ask(gateway, streams=False, input=history, tools=[plain, spaced])
        assert [(item.name, item.namespace) for item in said.output] == [("close", None), ("close", "agents")]
        await ask(gateway, streams=False, input=[*history, *items(said)], tools=[plain, spaced])

    first = calling(("c1", "close", "{}"), ("c2", "agents__close", "{}"))
    trace = await trace_of(program, Model(first, "x"))
    assert (linear(trace), trace.turns[0].tools) == (True, ("close", "agents__close"))
    assert trace.prompt(1)[1] == first


async def test_a_cut_answer_is_incomplete_and_usage_is_told() -> None:
    async def program(gateway: Gateway) -> None:
        said = await ask(gateway, streams=False, input="a", max_output_tokens=5, text={"format": {"type": "text"}})
        assert (said.status, said.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert (said.usage.input_tokens, said.usage.output_tokens, said.usage.total_tokens) == (7, 5, 12)
        async with openai_client(gateway) as client:
            events = [event async for event in await client.responses.create(model="m", input="b", stream=True)]
        assert events[-1].type == "response.completed"

    usage = Usage(prompt_tokens=7, completion_tokens=5)
    model = Model(Completion(Message.assistant("x"), "length", usage), "y")
    trace = await trace_of(program, model)
    assert trace.outcome == "completed"
    assert model.requests[0].sampling == {"max_tokens": 5}


async def test_images_in_inputs_and_outputs_reach_the_model() -> None:
    url = "data:image/png;base64,iVBORw=="

    async def program(gateway: Gateway) -> None:
        shown = {"type": "input_image", "image_url": url, "detail": "auto"}
        look: Any = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
        seen: Any = {"type": "function_call_output", "call_id": "c1", "output": [shown]}
        asked: Any = {"role": "user", "content": [{"type": "input_text", "text": "what?"}, shown]}
        await ask(gateway, streams=False, input=[asked, look, seen])

    trace = await trace_of(program, Model("a cat"))
    assert trace.prompt(0)[0].content == (Text(text="what?"), Image.of(b"\x89PNG"))
    assert trace.prompt(0)[2].content == (Image.of(b"\x89PNG"),)


TOOL: Any = {"type": "function", "name": "multiply", "parameters": {"type": "object"}}
ALLOWED: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "multiply"}]}


async def test_only_the_allowed_tools_are_offered_and_a_refusal_is_text() -> None:
    async def program(gateway: Gateway) -> None:
        refusal: Any = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
        said = [{"role": "user", "content": "a"}, refusal, {"role": "user", "content": "b"}]
        await ask(gateway, streams=False, input=said, tools=[TOOL, {**TOOL, "name": "other"}], tool_choice=ALLOWED)

    model = Model("x")
    trace = await trace_of(program, model)
    assert (trace.turns[0].tools, model.requests[0].sampling) == (("multiply",), {"tool_choice": "required"})
    assert [message.text for message in trace.prompt(0)] == ["a", "no", "b"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"background": True}, "background: nothing is kept here"),
        ({"input": []}, "nothing to answer"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"tools": [{"type": "local_shell"}]}, "local_shell"),
        ({"input": [{"type": "reasoning", "summary": 5}]}, "summary"),
        ({"include": ["message.output_text.logprobs"]}, "logprobs: they are for the record"),
        ({"tools": [TOOL], "tool_choice": {**ALLOWED, "tools": [{"type": "function", "name": "x"}]}}, "no tool 'x'"),
    ],
)
async def test_what_cannot_be_recorded_is_refused(wrong: dict[str, Any], said: str) -> None:
    async def program(gateway: Gateway) -> None:
        with pytest.raises(openai.BadRequestError, match=said):
            await ask(gateway, streams=False, **{"input": "a", **wrong})

    assert (await trace_of(program, Model())).turns == []
