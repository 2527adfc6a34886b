"""`Asked`: what a program asks of the model, whatever its dialect; and `Refused`, where that cannot be recorded."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envkit.trace import Turn
from envkit.types import Content, Image, Message, Text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEEPEST = 64
"""Levels of nesting in a body: beyond any tool's schema, and within what every JSON writer of ours can write again."""

THINKS: Literal["reasoning_content"] = "reasoning_content"
"""The field for reasoning that a program says and no reply of this gateway has said before."""


class Refused(Exception):
    """An HTTP answer that is no completion; `message` is read by the program, and perhaps by its model."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of a program: what the model is asked, and how the program wants to be answered.

    `tools` are in the form of a chat completion. `sampling` has what the program said of the allowed fields.
    `previous` is the id of an answer of this gateway that `messages` continue, and `continued` says that another call
    may continue this one's so. `instructions` go before everything, and are not part of what another call may
    continue; None is for a dialect that says them as messages. `wants` has what only the dialect knows.
    """

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stream: bool = False
    model: str = ""
    previous: str | None = None
    continued: bool = False
    instructions: str | None = None
    wants: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Answered:
    """A finished call: the turn that was recorded, under an id of the gateway's own."""

    asked: Asked
    turn: Turn
    id: str
    created: int
    """Unix seconds."""


Event = tuple[str | None, dict[str, Any]]
"""A server-sent event: its name, where the dialect has names, and its data."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format: a body in, an answer out, whole or as the events of a stream."""

    asked: Callable[[dict[str, Any]], Asked]
    answer: Callable[[Answered], dict[str, Any]]
    events: Callable[[Answered], list[Event]]
    error: Callable[[Refused], dict[str, Any]]
    failure: Callable[[Refused, Asked, str], list[Event]]
    """The events that end a stream which has begun, and the id of its answer."""
    opening: Callable[[Asked, str, int], list[Event]] = lambda asked, answer_id, created: []
    """The events with which a stream begins before there is an answer."""
    ping: Event | None = None
    """What keeps a stream alive; None for a comment."""
    numbered: bool = False
    """Events carry a `sequence_number`."""
    done: bytes = b""
    """What ends every stream."""


class Wire(BaseModel):
    """A piece of a body. What it does not name means nothing here, and is let fall."""

    model_config = ConfigDict(extra="ignore", frozen=True)


WireT = TypeVar("WireT", bound=Wire)

Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, le=2**31)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


def read(kind: type[WireT], body: dict[str, Any]) -> WireT:
    """The body as this kind; Refused with the place of what is wrong."""
    if _deeper(body, DEEPEST):
        raise Refused(400, f"The body is nested more than {DEEPEST} levels deep.")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        problem = max(error.errors(include_url=False, include_input=False), key=lambda e: len(e["loc"]))
        place = ".".join(str(step) for step in problem["loc"] if not _OURS.match(str(step)))
        raise Refused(400, f"{place[:200]}: {_problem(problem)[:300]}") from None


def content(parts: Iterable[Text | Image]) -> Content:
    """Parts as message content. One text is that text: programs send the same message now as text, now as a part."""
    kept = tuple(parts)
    match kept:
        case ():
            return ""
        case (Text(text=text),):
            return text
        case _:
            return kept


def joined(parts: Iterable[Text | Image]) -> str:
    """The text of parts that a model said: they were one text once."""
    return "".join(part.text for part in parts if isinstance(part, Text))


def image(url: str) -> Image:
    """The image of a `data:` URL.

    Any other URL is refused: the model's server would fetch it, on behalf of a program that may have no network.
    """
    found = re.match(r"data:(image/[\w.+-]{1,40});base64,", url)
    if found is None:
        raise Refused(
            400, "An image must be a data: URL with base64 (data:image/png;base64,...): no URL is fetched here."
        )
    return picture(url[found.end() :], found[1])


def picture(data: str, media_type: str) -> Image:
    """The image of this base64."""
    try:
        return Image.of(base64.b64decode(data, validate=True), media_type)
    except (binascii.Error, ValueError):
        raise Refused(400, "An image's data is not base64.") from None


def function(name: str, description: str | None, parameters: dict[str, Any] | None) -> dict[str, Any]:
    """A tool in the form of a chat completion."""
    about: dict[str, Any] = {"name": name}
    if description is not None:
        about["description"] = description
    about["parameters"] = parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": about}


def chosen(tools: Sequence[dict[str, Any]], **choices: Any) -> dict[str, Any]:
    """What a program said of how tools are to be called, where there are any and it is not what goes without saying."""
    if not tools:
        return {}
    return {name: value for name, value in choices.items() if value not in (None, "auto", True)}


class Named(Wire):
    """A tool by its name, as `allowed_tools` has it; of chat completions, in a field `function`."""

    name: str = ""
    function: Named | None = None


class Allowed(Wire):
    """The part of the tools that a program allows for this call."""

    mode: Literal["auto", "required"] = "auto"
    tools: list[Named] = []

    def of(self, tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The tools that are allowed, which are all that the model is offered; Refused where one is none of them."""
        names = {tool.function.name if tool.function else tool.name for tool in self.tools} - {""}
        for name in sorted(names):
            choose(tools, name)
        return [tool for tool in tools if tool["function"]["name"] in names]


def choose(tools: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The choice of this tool; Refused where it is not offered."""
    if not any(tool["function"]["name"] == name for tool in tools):
        raise Refused(400, f"tool_choice: there is no tool {name[:100]!r} among the tools.")
    return {"type": "function", "function": {"name": name}}


def set_fields(wire: Wire, *names: str) -> dict[str, Any]:
    """Those of the fields that the program set."""
    values = {name: getattr(wire, name) for name in names}
    return {name: value for name, value in values.items() if value not in (None, [])}


def finish_reason(turn: Turn) -> str:
    """Why the turn ended, in the words of a chat completion; with calls it ended for them, whatever the engine says."""
    if turn.reply.tool_calls and turn.finish_reason == "stop":
        return "tool_calls"
    return turn.finish_reason if turn.finish_reason in ("stop", "length", "tool_calls", "content_filter") else "stop"


_OURS = re.compile(r"_|str$|.*\[")
"""A step on the way to what is wrong that is a class or a union of ours, and nothing in the body."""


def _problem(error: ErrorDetails) -> str:
    """What is wrong, in words that are the program's."""
    match error["type"], error.get("ctx", {}):
        case "union_tag_invalid", {"tag": tag, "expected_tags": expected}:
            return f"the type {str(tag)[:100]!r} is not read here; there are {expected}"
        case "union_tag_not_found", _:
            return "it has no type"
        case _:
            return error["msg"]


def _deeper(value: object, levels: int) -> bool:
    """Whether JSON is nested deeper than this."""
    if isinstance(value, dict):
        inner: Iterable[object] = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    else:
        return False
    return levels == 0 or any(_deeper(part, levels - 1) for part in inner)
