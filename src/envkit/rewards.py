"""Rewards and metrics: plain functions of a finished rollout, named and weighted.

    def correct(rollout: Rollout) -> float | Score | None | dict[agent, float]

sync or async; None means undecided, which leaves the rollout unscored. A group reward takes the traces of all
attempts at one task and returns one float for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from envkit.errors import EnvError, UsageError
from envkit.steps import Steps
from envkit.trace import Score, Trace

if TYPE_CHECKING:
    from envkit.rollout import Rollout

P = ParamSpec("P")
T = TypeVar("T")

Value = float | Score | Mapping[str, float] | None
Reward = Callable[["Rollout[Any]"], "Value | Awaitable[Value]"]
GroupReward = Callable[[Sequence[Trace]], "Sequence[float] | Awaitable[Sequence[float]]"]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A reward with its weight and name; `weighted(...)` makes one."""

    function: Callable[..., Any]
    weight: float
    name: str


def weighted(function: Callable[..., Any], weight: float, *, name: str | None = None) -> Weighted:
    """The reward with a weight other than 1, or a name other than the function's own."""
    return Weighted(function, weight, name or _name(function))


def named(functions: Iterable[Callable[..., Any] | Weighted], *, weight: float = 1.0) -> list[Weighted]:
    """Each function with weight and name; UsageError where one has no name or two have the same."""
    rewards = [f if isinstance(f, Weighted) else Weighted(f, weight, _name(f)) for f in functions]
    names = [reward.name for reward in rewards]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"Two rewards are named {twice[0]!r}. Name one with weighted(fn, 1.0, name=...).")
    return rewards


def blocking(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """The sync function as an async one that runs in a thread, for rewards and tools that take long.

    A thread of its own, which neither waits for others that hang nor keeps the process from ending: where nobody
    waits for it any more, it is left behind.
    """
    name = _plain_name(function)

    @functools.wraps(function)
    async def in_thread(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        threading.Thread(target=_tell, args=(loop, result, call), daemon=True, name=f"blocking {name}").start()
        return await result

    in_thread.__name__ = name
    return in_thread


def _tell(loop: asyncio.AbstractEventLoop, result: asyncio.Future[T], call: Callable[[], T]) -> None:
    """Call, and tell the loop what came of it, if there still is one that wants to know."""

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(cast("T", value))
        else:
            result.set_exception(error)

    value: T | None = None
    error: BaseException | None = None
    try:
        value = call()
    except StopIteration as stop:  # which no future can hold
        error = RuntimeError(f"it raised StopIteration: {stop}")
    except BaseException as raised:  # noqa: BLE001 - whatever it is, it is raised where the call is awaited
        error = raised
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(settle, value, error)


def _plain_name(function: Callable[..., Any]) -> str:
    """The name of what is called, also where a partial of it is."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return getattr(function, "__name__", type(function).__name__)


async def outcome_of(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """(what the function returned or resolved to, seconds for which it held the event loop)."""
    started = time.perf_counter()
    value = function(*args)
    held = time.perf_counter() - started
    if not inspect.isawaitable(value):
        return value, held
    steps = Steps(value)
    return await steps, max(held, steps.held)


def read_value(name: str, value: object) -> tuple[float | None, Score | None, dict[str, float]]:
    """(the policy's value, the score if one was given, the value of each agent) of what a reward returned."""
    if isinstance(value, Score):
        number = None if value.value is None else _finite(name, value.value)
        return number, value, {} if number is None else {"policy": number}
    if value is None:
        return None, None, {}
    if isinstance(value, Mapping):
        agents = {str(agent): _finite(name, v) for agent, v in cast(Mapping[Any, Any], value).items()}
        if "policy" not in agents:
            raise EnvError(f"reward {name!r} returned {value!r}, which has no entry for 'policy'")
        return agents["policy"], None, agents
    number = _finite(name, value)
    return number, None, {"policy": number}


def _finite(name: str, value: object) -> float:
    if not isinstance(value, int | float):
        raise EnvError(f"reward {name!r} returned {value!r}; a float, Score, None or dict of floats was due")
    if not math.isfinite(value):
        raise EnvError(f"reward {name!r} returned {value!r}; rewards are finite, None means undecided")
    return float(value)


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    if not name or name == "<lambda>":
        raise UsageError(f"The reward {function!r} has no name. Give it one: weighted(fn, 1.0, name='...').")
    return name
