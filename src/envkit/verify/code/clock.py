"""Time that a program has had, by a clock that stands still while the host is late to listen."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

TICK = 0.02
"""Seconds between two looks at whether the event loop is late."""

LONG = 256 * 1024
"""Bytes from which reading something holds the event loop too long: for a few milliseconds."""

T = TypeVar("T")


class Clock:
    """Seconds by `now()`, without those for which the event loop was held, by whatever else this process does.

    It runs in a `with` block. What a program says in time is then heard in time, however late that is by the wall.
    """

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._lost, self._due = 0.0, math.inf
        self._tick()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._next.cancel()

    def now(self) -> float:
        return time.monotonic() - self._lost - self._late()

    def _tick(self) -> None:
        self._lost += self._late()
        self._due = time.monotonic() + TICK
        self._next = self._loop.call_later(TICK, self._tick)

    def _late(self) -> float:
        return max(0.0, time.monotonic() - self._due)


async def apart(size: int, function: Callable[..., T], *args: object) -> T:
    """What the function returns for these arguments; worked out in a thread where `size` bytes of them are many."""
    return await asyncio.to_thread(function, *args) if size > LONG else function(*args)
