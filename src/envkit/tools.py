"""Tools: any callable. Its signature and docstring make the schema, its mistakes and the model's go back as text."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from envkit.docstrings import described
from envkit.errors import EnvkitError, InfraError
from envkit.limits import Deadline, Limits
from envkit.types import Content, Image, Text, ToolCall

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHOWN = 80
"""Characters of a wrong argument, or of the name of a tool that is none, that are said back to the model."""
MISTAKES = 5
"""Wrong arguments that are named in one answer."""
UNAVAILABLE_WAITS = (0.5, 2.0)
"""Seconds before a tool whose service is down is called again; after the last, the rollout fails for infra."""


class Done(Exception):
    """Raised by a tool to end `run_tools`, which then returns `value`."""

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value


class ToolUnavailable(Exception):
    """Raised by a tool whose service is down: called again, then an InfraError, since it is not the model's mistake."""


class ToolFailed(Exception):
    """Raised by a tool to tell the model what went wrong, in exactly these words."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A callable with what the model is told of it. `Tool.of(fn)` reads that from the function."""

    function: Callable[..., Any]
    name: str
    description: str
    parameters: dict[str, Any]
    """The JSON schema of its arguments."""
    arguments: Callable[[str], dict[str, Any]]
    """Reads a call's JSON as what the function takes; ValueError with a sentence that the model can act on."""

    @classmethod
    def of(cls, function: Callable[..., Any] | Tool) -> Tool:
        """The tool of a function, closure, bound method or callable object."""
        if isinstance(function, Tool):
            return function
        plain = inspect.unwrap(getattr(function, "__func__", function))
        name = getattr(function, "__name__", type(function).__name__)
        if not inspect.isfunction(plain):
            return cls(function, name, *_described(_Signature(type(function).__call__, name, bound=True)))
        return cls(function, name, *_described(_Signature(plain, name, bound=inspect.ismethod(function))))

    def to_wire(self) -> dict[str, Any]:
        """The tool in the form of an OpenAI chat completion request."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Outcome:
    """What a tool call came to: the content for the model, and what ended the conversation, if it did."""

    content: Content
    error: str | None = None
    done: Done | None = None
    held: float = 0.0
    """Seconds for which a sync tool held the event loop."""


async def use(call: ToolCall, tools: Sequence[Tool], limits: Limits, deadline: Deadline | None) -> Outcome:
    """Make one call. The model's mistakes and the tool's exceptions are text for the model; EnvkitErrors pass."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        names = ", ".join(t.name for t in tools) or "none"
        outcome = _refused(f"There is no tool named '{_shown(call.name)}'. Tools: {names}.")
    else:
        try:
            arguments = tool.arguments(call.arguments)
        except ValueError as mistake:
            outcome = _refused(str(mistake))
        else:
            outcome = await _run(tool, arguments, limits.tool, deadline)
    content = _capped(outcome.content, limits.tool_output)
    return replace(outcome, content=content, error=None if outcome.error is None else str(content))


async def _run(tool: Tool, arguments: dict[str, Any], seconds: float | None, deadline: Deadline | None) -> Outcome:
    cancelling = _cancelling()
    for wait in (*UNAVAILABLE_WAITS, None):
        held = 0.0
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                started = time.perf_counter()
                result = tool.function(**arguments)
                held = time.perf_counter() - started
                if inspect.isawaitable(result):
                    held, result = 0.0, await result
            return Outcome(_content(result), held=held)
        except Done as done:
            return Outcome(_content(done.value), done=done)
        except EnvkitError:
            raise
        except ToolFailed as failed:
            return _refused(str(failed))
        except ToolUnavailable as down:
            if wait is None:
                tries = len(UNAVAILABLE_WAITS) + 1
                raise InfraError(f"tool '{tool.name}' was unavailable {tries} times: {down}") from down
            await _pause(wait, deadline)
        except TimeoutError as error:
            if scope.expired():
                return _refused(f"'{tool.name}' was stopped: it did not finish in {seconds:g} s.")
            return _raised(error)
        except asyncio.CancelledError:
            if _cancelling() > cancelling:
                raise
            return _refused("CancelledError: what the tool waited for was cancelled.")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a tool raises is the model's to read
            return _raised(error)
    raise AssertionError("the last wait is None, which returned or raised")


def _cancelling() -> int:
    """How often somebody has asked this task to end: no more than before where only what it awaits was cancelled."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def _pause(seconds: float, deadline: Deadline | None) -> None:
    if deadline is None:
        await asyncio.sleep(seconds)
        return
    with deadline.paused():
        await asyncio.sleep(seconds)


def _refused(message: str) -> Outcome:
    return Outcome(message, error=message)


def _raised(error: BaseException) -> Outcome:
    """What a tool raised, as text; its kind alone where it cannot say what it is."""
    try:
        return _refused(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - a tool's exception is code of the tool's
        return _refused(type(error).__name__)


def json_object(name: str, text: str) -> dict[str, Any]:
    """The arguments of a call of the tool `name` as JSON; ValueError with a sentence for the model."""
    try:
        raw = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        raise ValueError(f"The arguments of '{name}' are not JSON ({error}). Send one JSON object.") from None
    if not isinstance(raw, dict):
        raise ValueError(f"The arguments of '{name}' must be one JSON object, not {type(raw).__name__}.")
    return cast("dict[str, Any]", raw)


def _validated(model: type[BaseModel], name: str, text: str) -> dict[str, Any]:
    """The arguments as the function takes them. Strictly: a "3" is no number, and nothing is left out or added."""
    json_object(name, text)
    try:
        given = model.model_validate_json(text or "{}", strict=True)
    except ValidationError as error:
        wrong = "; ".join(map(_mistake, error.errors(include_url=False)[:MISTAKES]))
        raise ValueError(f"The arguments of '{name}' do not fit: {wrong}.") from None
    return {field: getattr(given, field) for field in given.model_fields_set}


def _mistake(error: ErrorDetails) -> str:
    """One thing that is wrong with the arguments: where, what was expected, and what came."""
    where = ".".join(_shown(str(step)) for step in error["loc"])
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "extra_forbidden":
        return f"{where} is no argument of it"
    return f"{where}: {error['msg']}, and {_shown(_as_json(error['input']))} came"


def _shown(text: str) -> str:
    """What a model wrote, cut to what a sentence can hold."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _capped(content: Content, most: int | None) -> Content:
    """The content with at most so many characters of text, the middle of what is longer left out and marked."""
    if most is None:
        return content
    if isinstance(content, str):
        return content if len(content) <= most else _without_middle(content, most)
    return tuple(
        part if isinstance(part, Image) or len(part.text) <= most else Text(text=_without_middle(part.text, most))
        for part in content
    )


def _without_middle(text: str, most: int) -> str:
    head, tail = text[: (most + 1) // 2], text[len(text) - most // 2 :]
    return f"{head}\n[... {len(text) - most:,} characters left out ...]\n{tail}"


def _content(value: Any) -> Content:
    """A tool's result as message content: text and parts as they are, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Text | Image):
        return (value,)
    if isinstance(value, list | tuple):
        parts = tuple(cast("Sequence[Any]", value))
        if parts and all(isinstance(part, Text | Image) for part in parts):
            return parts
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return _as_json(cast("object", value))


def _as_json(value: object) -> str:
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError:
        return str(value)


class _Signature:
    """A function's signature as a cache key: closures of one `def` share a code object, and so one schema."""

    def __init__(self, function: Callable[..., Any], name: str, *, bound: bool) -> None:
        self.function, self.name, self.bound = function, name, bound
        self.key = (function.__code__, name, bound, repr(function.__defaults__), repr(function.__annotations__))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Signature) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=1024)
def _described(signature: _Signature) -> tuple[str, dict[str, Any], Callable[[str], dict[str, Any]]]:
    """(description, JSON schema of the parameters, what reads arguments by it)."""
    function = signature.function
    description, about = described(inspect.getdoc(function) or "")
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    parameters = list(inspect.signature(function).parameters.values())[1 if signature.bound else 0 :]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"tool '{signature.name}' cannot take {parameter}: a model passes arguments by name")
        default = ... if parameter.default is parameter.empty else parameter.default
        info = FieldInfo(default=default, description=about.get(parameter.name))
        fields[parameter.name] = (hints.get(parameter.name, Any), info)
    model = create_model(signature.name, __config__=ConfigDict(extra="forbid"), **fields)
    schema = model.model_json_schema()
    schema.pop("title", None)
    return description, schema, partial(_validated, model, signature.name)
