"""Signatures: what authors say of parameters, what a schema is shared by, and what callables can be tools."""

from __future__ import annotations

import functools
import gc
import json
import weakref
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from envkit.rewards import blocking
from envkit.tools import Tool


def about(function: Callable[..., Any], parameter: str) -> dict[str, Any]:
    return Tool.of(function).parameters["properties"][parameter]


def read(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    return Tool.of(function).arguments(json.dumps(arguments))


def test_an_annotated_field_keeps_what_it_says() -> None:
    def take(x: Annotated[int, Field(ge=1, description="an x")] = 3, y: Annotated[int, Field(ge=1)] = 3) -> None:
        """Take.

        Args:
            x: less than the field says
            y: a y
        """

    assert about(take, "x") == {"default": 3, "description": "an x", "minimum": 1, "title": "X", "type": "integer"}
    assert about(take, "y")["description"] == "a y"
    with pytest.raises(ValueError, match="x: Input should be greater than or equal to 1"):
        read(take, x=0)


def test_a_field_as_default_is_the_default_of_what_it_describes() -> None:
    def take(
        x: int = Field(3, ge=1, description="an x"),
        y: list[int] = Field(default_factory=list),  # noqa: B008
    ) -> None: ...

    assert about(take, "x") == {"default": 3, "description": "an x", "minimum": 1, "title": "X", "type": "integer"}
    assert read(take) == {"x": 3, "y": []}
    assert read(take, x=5, y=[1]) == {"x": 5, "y": [1]}
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        read(take, x=0)


def test_a_field_without_a_default_is_needed_and_an_alias_is_the_models_name_for_it() -> None:
    def send(to: int = Field(ge=1), from_: str = Field("me", alias="from")) -> None: ...

    assert Tool.of(send).parameters["required"] == ["to"]
    assert read(send, to=1, **{"from": "you"}) == {"to": 1, "from_": "you"}
    with pytest.raises(ValueError, match="to is missing"):
        read(send)


def test_closures_that_say_different_things_have_schemas_of_their_own() -> None:
    def made(text: str, default: int, choices: type[Enum]) -> Callable[..., Any]:
        def pick(choice: Any, *, times: int = default) -> Any:
            return choice

        pick.__doc__ = text
        pick.__annotations__ |= {"choice": choices}
        return pick

    first = made("One.", 1, Enum("Choice", {"A": "a"}))
    second = made("Two.", 2, Enum("Choice", {"B": "b"}))
    assert (Tool.of(first).description, Tool.of(second).description) == ("One.", "Two.")
    assert (about(first, "times")["default"], about(second, "times")["default"]) == (1, 2)
    assert Tool.of(second).parameters["$defs"]["Choice"]["enum"] == ["b"]
    assert read(second, choice="b")["choice"].value == "b"


def test_closures_that_say_the_same_in_fields_share_a_schema() -> None:
    def made() -> Callable[..., Any]:
        def pick(x: Any = None) -> None: ...

        pick.__annotations__ |= {"x": Annotated[list[int] | None, Field(description="numbers")]}
        return pick

    assert Tool.of(made()).arguments is Tool.of(made()).arguments


def test_a_schema_holds_no_closures_state() -> None:
    class State: ...

    def made() -> Callable[..., Any]:
        state = State()

        def peek(unlike_any_other: int) -> str:
            return repr(state)

        return peek

    tool = Tool.of(made())
    gone = weakref.ref(tool.function)
    del tool
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("error")
def test_a_parameter_may_have_any_name() -> None:
    def take(
        _x: int, json: str, schema: str, copy: int = 1, model_dump: str = "a", model_config: str = "z"
    ) -> None: ...

    said = {"_x": 1, "json": "a", "schema": "b", "copy": 2, "model_dump": "c", "model_config": "d"}
    assert list(Tool.of(take).parameters["properties"]) == list(said)
    assert read(take, **said) == said
    with pytest.raises(ValueError, match="p0 is no argument of it"):
        read(take, _x=1, json="a", schema="b", p0=1)


class Inner(BaseModel):
    v: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_what_a_nested_model_does_not_know_is_refused_unless_it_says_otherwise() -> None:
    def take(inners: list[Inner]) -> None: ...

    def take_open(any_: Open) -> None: ...

    with pytest.raises(ValueError, match=r"do not fit: inners.0.zz is no argument of it"):
        read(take, inners=[{"v": 1, "zz": 2}])
    assert read(take_open, any_={"zz": 2})["any_"].zz == 2


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


class Adder:
    def plus(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async def __call__(self, a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b


@pytest.mark.parametrize(
    ("function", "name", "parameters"),
    [
        (functools.partial(add, b=3), "add", ["a"]),
        (functools.partial(add, 1), "add", ["b"]),
        (functools.partial(Adder().plus, 1), "plus", ["b"]),
        (functools.partial(functools.partial(add, 1), b=3), "add", []),
        (functools.lru_cache(add), "add", ["a", "b"]),
        (Adder(), "Adder", ["a", "b"]),
        (functools.partial(Adder(), b=1), "Adder", ["a"]),
        (blocking(Adder().plus), "plus", ["a", "b"]),
        (blocking(functools.partial(add, b=3)), "add", ["a"]),
    ],
)
def test_what_a_callable_has_filled_already_is_not_the_models_to_say(
    function: Any, name: str, parameters: list[str]
) -> None:
    tool = Tool.of(function)
    assert (tool.name, tool.description) == (name, "Add two numbers.")
    assert list(tool.parameters.get("properties", {})) == parameters


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (len, "tool 'len' has no signature that can be read"),
        (Inner, "tool 'Inner' has no signature that can be read"),
        (3, "tool 'int' has no signature that can be read"),
        (lambda *numbers: numbers, "a model passes arguments by name"),
    ],
)
def test_what_a_model_cannot_call_is_refused_with_a_reason(function: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        Tool.of(function)


def test_an_annotation_that_cannot_be_read_or_said_is_refused_with_a_reason() -> None:
    class Local(Enum):
        A = "a"

    def local(x: Local) -> None: ...

    def odd(x: Adder) -> None: ...

    with pytest.raises(TypeError, match="tool 'local' has an annotation that cannot be read"):
        Tool.of(local)
    with pytest.raises(TypeError, match="tool 'odd' takes what no model can say"):
        Tool.of(odd)
