"""`Steps`: how long a coroutine holds the event loop between two of its awaits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Steps(Generic[T]):
    """Awaiting it awaits what is inside; `held` are the seconds of the longest step, in which nothing else ran."""

    __slots__ = ("_inside", "held")

    def __init__(self, inside: Awaitable[T]) -> None:
        self._inside = inside
        self.held = 0.0

    def __await__(self) -> Generator[Any, None, T]:
        steps: Any = self._inside if isinstance(self._inside, Generator) else self._inside.__await__()
        step: Callable[[], Any] = steps.__next__
        while True:
            started = time.perf_counter()
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            finally:
                if (held := time.perf_counter() - started) > self.held:
                    self.held = held
            step = steps.__next__
            try:
                yield waits_for
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it belongs to what is inside, a cancellation above all
                step = _thrown(steps, error)


def _thrown(steps: Any, error: BaseException) -> Callable[[], Any]:
    def throw() -> Any:
        if not hasattr(steps, "throw"):
            raise error
        return steps.throw(error)

    return throw
