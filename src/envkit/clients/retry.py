"""The one retry layer: what is worth another try, how long to wait for it, and how many tries run at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from email.utils import parsedate_to_datetime

from envkit.clients.base import Completion, Request
from envkit.errors import ModelError

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds: the wait before try n is drawn evenly from 0 to FIRST_WAIT * 2^n (full jitter)."""
LONGEST_RETRY_AFTER = 300.0
RETRYABLE = frozenset({408, 409, 429, *range(500, 600)})


class Retryable(ModelError):
    """A failure that another try may mend; `after` is the server's own wish, in seconds."""

    def __init__(self, message: str, *, status: int | None = None, after: float | None = None) -> None:
        super().__init__(message, status=status, retryable=True)
        self.after = after


class Places:
    """At most so many tries under way at once; a rollout's clock stands still in the queue.

    A request that waits to try again holds no place.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free: asyncio.Semaphore

    async def take(self, request: Request) -> None:
        """Wait for a place."""
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop, self._free = loop, asyncio.Semaphore(self._most)
        with nullcontext() if request.deadline is None else request.deadline.paused():
            await self._free.acquire()

    def give(self) -> None:
        """Give a place back."""
        self._free.release()


async def with_retries(
    attempt: Callable[[Request], Awaitable[Completion]], request: Request, *, max_retries: int, places: Places | None
) -> Completion:
    """The first try that succeeds; the last failure where none does. Without `places` any number run at once.

    The rollout's clock stands still between tries, and where another try follows it gets the time of this one back.
    """
    for retry in range(max_retries + 1):
        if places is not None:
            await places.take(request)
        started = time.monotonic()
        try:
            completion = await attempt(request)
        except Retryable as error:
            failure = error
        else:
            return completion if retry == 0 else replace(completion, retries=retry)
        finally:
            if places is not None:
                places.give()
        if request.deadline is not None:
            request.deadline.give_back(time.monotonic() - started)
        if retry == max_retries:
            raise failure
        await _wait(failure, retry, request)
    raise AssertionError("the last try returned or raised")


async def _wait(error: Retryable, retry: int, request: Request) -> None:
    seconds = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**retry))
    if error.after is not None:
        seconds += min(error.after, LONGEST_RETRY_AFTER)
    if request.deadline is None:
        await asyncio.sleep(seconds)
        return
    with request.deadline.paused():
        await asyncio.sleep(seconds)


def retry_after(header: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for: a number, or the time until an HTTP date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
