"""Tools: their schemas, and what goes back to the model."""

from __future__ import annotations

import asyncio
import sys
from enum import Enum
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from envkit.errors import InfraError
from envkit.limits import Limits
from envkit.tools import Done, Outcome, Tool, ToolUnavailable, use
from envkit.types import Image, Text, ToolCall


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: int


class Anything:
    """No schema can be made of it."""


def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: The first one,
            which is needed.
        b (int): The second one.

    Returns:
        Their sum.
    """
    return a + b


async def run(function: Any, arguments: str = "{}", *, seconds: float | None = 5.0) -> Outcome:
    tool = Tool.of(function)
    return await use(ToolCall(id="1", name=tool.name, arguments=arguments), [tool], Limits(tool=seconds), None)


def test_the_schema_comes_from_signature_and_docstring() -> None:
    wire = Tool.of(add).to_wire()["function"]
    assert wire["name"] == "add"
    assert wire["description"] == "Add two numbers."
    assert wire["parameters"]["required"] == ["a"]
    assert wire["parameters"]["properties"]["a"]["description"] == "The first one, which is needed."
    assert wire["parameters"]["properties"]["b"] == {
        "default": 2, "description": "The second one.", "title": "B", "type": "integer",
    }  # fmt: skip


def test_enums_and_models_are_in_the_schema_and_arrive_as_themselves() -> None:
    seen: list[object] = []

    def paint(colour: Colour, at: Point) -> str:
        seen.extend([colour, at])
        return "done"

    schema = Tool.of(paint).parameters
    assert schema["$defs"]["Colour"]["enum"] == ["red", "blue"]
    outcome = asyncio.run(run(paint, '{"colour": "red", "at": {"x": 1, "y": 2}}'))
    assert outcome.content == "done"
    assert seen == [Colour.RED, Point(x=1, y=2)]


def test_a_partial_is_told_of_without_what_it_passes_itself() -> None:
    class Shop:
        def price(self, item: str, currency: str) -> str:
            """What an item costs."""
            return f"{item}: 3 {currency}"

    def find(store: Anything, name: str) -> str:
        return name

    assert asyncio.run(run(partial(add, 40), '{"b": 2}')).content == "42"
    assert asyncio.run(run(partial(add, b=5), '{"a": 2}')).content == "7"
    assert "b is no argument of it" in str(asyncio.run(run(partial(add, b=5), '{"a": 2, "b": 1}')).error)
    assert asyncio.run(run(partial(Shop().price, currency="euro"), '{"item": "tea"}')).content == "tea: 3 euro"
    assert asyncio.run(run(partial(find, Anything()), '{"name": "x"}')).content == "x"
    tool = Tool.of(partial(partial(add, 1), b=2))
    assert (tool.name, tool.description, tool.parameters["properties"]) == ("add", "Add two numbers.", {})


@pytest.mark.parametrize("function", [len, dict.fromkeys, int, partial(len)], ids=lambda f: type(f).__name__)
def test_what_has_no_signature_is_refused_in_a_sentence(function: Any) -> None:
    with pytest.raises(TypeError, match="has no signature that can be read: wrap it in a function of your own"):
        Tool.of(function)


def test_closures_of_one_function_share_a_schema_but_not_their_state() -> None:
    def counter() -> Any:
        seen: list[int] = []

        def put(number: int) -> str:
            seen.append(number)
            return str(len(seen))

        return put

    first, second = Tool.of(counter()), Tool.of(counter())
    assert first.arguments is second.arguments
    assert asyncio.run(run(first.function, '{"number": 1}')).content == "1"
    assert asyncio.run(run(second.function, '{"number": 1}')).content == "1"


def test_bound_methods_and_callable_objects_are_tools() -> None:
    class Shop:
        def __init__(self) -> None:
            self.sold = 0

        def sell(self, count: int) -> int:
            """Sell some."""
            self.sold += count
            return self.sold

        def __call__(self, count: int) -> int:
            """Give back."""
            self.sold -= count
            return self.sold

    shop = Shop()
    assert "self" not in Tool.of(shop.sell).parameters["properties"]
    assert asyncio.run(run(shop.sell, '{"count": 3}')).content == "3"
    assert Tool.of(shop).description == "Give back."
    assert asyncio.run(run(shop, '{"count": 1}')).content == "2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{bad", "The arguments of 'add' are not JSON"),
        ("[1]", "must be one JSON object, not list"),
        ('{"a": "x"}', 'a: Input should be a valid integer, and "x" came.'),
        ('{"a": "3"}', 'a: Input should be a valid integer, and "3" came.'),
        ('{"a": 1.5}', "a: Input should be a valid integer, and 1.5 came."),
        ('{"a": true}', "a: Input should be a valid integer, and true came."),
        ("{}", "The arguments of 'add' do not fit: a is missing."),
        ('{"a": 1, "c": 2}', "The arguments of 'add' do not fit: c is no argument of it."),
        ('{"a": "' + "x" * 999 + '"}', "x... came."),
    ],
)
async def test_the_models_mistakes_go_back_as_text(arguments: str, said: str) -> None:
    outcome = await run(add, arguments)
    assert said in str(outcome.content)
    assert outcome.error is not None


async def test_an_unknown_tool_names_those_there_are() -> None:
    call = ToolCall(id="1", name="divide", arguments="{}")
    outcome = await use(call, [Tool.of(add)], Limits(), None)
    assert outcome.content == "There is no tool named 'divide'. Tools: add."


async def test_a_raising_tool_goes_back_as_text() -> None:
    def fail() -> None:
        raise KeyError("order 7")

    assert (await run(fail)).content == "KeyError: 'order 7'"


async def test_a_tools_own_timeout_is_its_exception_and_ours_says_so() -> None:
    async def own() -> None:
        raise TimeoutError("upstream")

    async def hang() -> None:
        await asyncio.sleep(60)

    assert (await run(own)).content == "TimeoutError: upstream"
    assert (await run(hang, seconds=0.05)).content == "'hang' was stopped: it did not finish in 0.05 s."


async def test_done_carries_its_value() -> None:
    def submit(answer: str) -> None:
        raise Done(answer)

    outcome = await run(submit, '{"answer": "42"}')
    assert outcome.done is not None
    assert outcome.done.value == "42"


async def test_an_unavailable_tool_is_tried_again_then_fails_for_infra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envkit.tools.UNAVAILABLE_WAITS", (0.0, 0.0))
    calls: list[int] = []

    def recovers() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ToolUnavailable("503")
        return "ok"

    def down() -> None:
        raise ToolUnavailable("503")

    assert (await run(recovers)).content == "ok"
    with pytest.raises(InfraError, match="tool 'down' was unavailable 3 times: 503"):
        await run(down)


async def test_a_tool_that_would_end_the_process_is_a_tool_that_raised() -> None:
    def leaves() -> None:
        raise SystemExit("usage: leaves FILE")

    assert (await run(leaves)).content == "SystemExit: usage: leaves FILE"


async def test_an_infra_error_is_not_the_models_to_read() -> None:
    def broken() -> None:
        raise InfraError("the box is gone")

    with pytest.raises(InfraError, match="the box is gone"):
        await run(broken)


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (None, ""),
        ("text", "text"),
        ({"a": [1]}, '{"a":[1]}'),
        (Point(x=1, y=2), '{"x":1,"y":2}'),
        ([Text(text="t"), Image(url="u")], (Text(text="t"), Image(url="u"))),
        ([], "[]"),
    ],
)
async def test_results_become_content(value: object, content: object) -> None:
    def give() -> object:
        return value

    assert (await run(give)).content == content


def test_a_tool_a_model_cannot_call_is_refused() -> None:
    def loose(*args: int) -> None: ...

    with pytest.raises(TypeError, match="a model passes arguments by name"):
        Tool.of(loose)


async def test_an_integer_does_for_a_float() -> None:
    def half(x: float) -> float:
        return x / 2

    assert (await run(half, '{"x": 3}')).content == "1.5"
    assert "valid number" in str((await run(half, '{"x": "3"}')).error)


@pytest.mark.parametrize("value", ["a" * 60 + "b" * 60, (Text(text="a" * 60 + "b" * 60), Image(url="u"))])
async def test_the_middle_of_a_long_result_is_left_out_and_marked(value: Any) -> None:
    def flood() -> Any:
        return value

    call = ToolCall(id="1", name="flood", arguments="{}")
    outcome = await use(call, [Tool.of(flood)], Limits(tool_output=20), None)
    short = "aaaaaaaaaa\n[... 100 characters left out ...]\nbbbbbbbbbb"
    assert outcome.content == (short if isinstance(value, str) else (Text(text=short), Image(url="u")))
    assert (await use(call, [Tool.of(flood)], Limits(tool_output=120), None)).content == value
    assert (await use(call, [Tool.of(flood)], Limits(tool_output=None), None)).content == value


async def test_the_name_of_no_tool_is_cut() -> None:
    outcome = await use(ToolCall(id="1", name="n" * 5000, arguments="{}"), [], Limits(), None)
    assert outcome.content == f"There is no tool named '{'n' * 80}...'. Tools: none."


async def test_what_a_tool_cancels_itself_and_an_exit_go_back_as_text() -> None:
    async def waits_for_the_cancelled() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    def leaves() -> None:
        sys.exit(3)

    assert (await run(waits_for_the_cancelled)).error == "CancelledError: what the tool waited for was cancelled."
    assert (await run(leaves)).error == "SystemExit: 3"


async def test_a_cancellation_from_outside_passes_a_tool() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    task = asyncio.ensure_future(run(hang))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_exception_that_cannot_say_what_it_is_says_its_kind() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def fail() -> None:
        raise Mute

    assert (await run(fail)).error == "Mute"


@pytest.mark.parametrize("arguments", ['{"a": 1, "' + "z" * 500_000 + '": 1}', '{"' + "z" * 500_000 + '": 1}'])
async def test_an_argument_of_a_long_name_is_refused_in_few_words(arguments: str) -> None:
    outcome = await run(add, arguments)
    assert f"{'z' * 80}... is no argument of it" in str(outcome.error)
    assert len(str(outcome.content)) < 300


async def test_what_is_refused_is_cut_like_a_result() -> None:
    def fail() -> None:
        raise ValueError("x" * 1000)

    outcome = await use(ToolCall(id="1", name="fail", arguments="{}"), [Tool.of(fail)], Limits(tool_output=100), None)
    assert outcome.error == outcome.content
    assert len(str(outcome.content)) < 200
