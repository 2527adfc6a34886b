"""Tools: any callable. Its signature and docstring make the schema, its mistakes and the model's go back as text."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from pydantic import BaseModel

from envkit.errors import EnvkitError, InfraError
from envkit.limits import Deadline, Limits
from envkit.signatures import as_json, described_by_signature, shown
from envkit.steps import Steps
from envkit.types import Content, Image, Text, ToolCall
from envkit.watchdog import WATCHDOG

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
        """The tool of a function, closure, bound method, partial or callable object; TypeError for anything else."""
        if isinstance(function, Tool):
            return function
        name = _name(function)
        told = described_by_signature(function, name)
        return cls(function, name, told.description, told.parameters, told.arguments)

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
    """Seconds for which the tool held the event loop."""


async def use(
    call: ToolCall,
    tools: Sequence[Tool],
    limits: Limits,
    deadline: Deadline | None,
    holding: Callable[[float], None] = lambda seconds: None,
) -> Outcome:
    """Make one call. The model's mistakes and the tool's exceptions are text for the model; EnvkitErrors pass.

    `holding` is told, by another thread, of a sync tool that holds the loop for far too long while it still does.
    """
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        names = ", ".join(t.name for t in tools) or "none"
        outcome = _refused(f"There is no tool named '{shown(call.name)}'. Tools: {names}.")
    else:
        try:
            arguments = tool.arguments(call.arguments)
        except ValueError as mistake:
            outcome = _refused(str(mistake))
        else:
            outcome = await _run(tool, arguments, limits.tool, deadline, holding)
    content = _capped(outcome.content, limits.tool_output)
    return replace(outcome, content=content, error=None if outcome.error is None else str(content))


async def _run(
    tool: Tool,
    arguments: dict[str, Any],
    seconds: float | None,
    deadline: Deadline | None,
    holding: Callable[[float], None],
) -> Outcome:
    cancelling = _cancelling()
    for wait in (*UNAVAILABLE_WAITS, None):
        held = 0.0
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                started = time.perf_counter()
                WATCHDOG.holds(holding)
                try:
                    result = tool.function(**arguments)
                finally:
                    WATCHDOG.returned()
                held = time.perf_counter() - started
                if inspect.isawaitable(result):
                    steps = Steps(result)
                    result, held = await steps, max(held, steps.held)
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


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if name is None and isinstance(function, partial):
        return _name(cast("partial[Any]", function).func)
    return name or type(function).__name__


def _refused(message: str) -> Outcome:
    return Outcome(message, error=message)


def _raised(error: BaseException) -> Outcome:
    """What a tool raised, as text; its kind alone where it cannot say what it is."""
    try:
        return _refused(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - a tool's exception is code of the tool's
        return _refused(type(error).__name__)


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
    return as_json(cast("object", value))
