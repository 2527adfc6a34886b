"""What an episode may use: counts for each agent, seconds for each phase. Finite by default."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import BaseModel


class Limits(BaseModel, frozen=True, extra="forbid"):
    """Counts are for each agent, added over its chats; the rest are seconds. None means no limit.

    A judge's calls in scoring count for nothing here but the `score` deadline.
    """

    max_turns: int | None = 100
    """Model calls of one agent."""
    max_total_tokens: int | None = 10_000_000
    """Prompt and completion tokens of one agent's calls, as the server counted them."""
    setup: float | None = 600.0
    """Seconds until the environment has started."""
    run: float | None = 3600.0
    """Seconds of `Environment.run`, without queueing and retries."""
    finish: float | None = 60.0
    """Seconds for the `at_end` callables together."""
    score: float | None = 600.0
    """Seconds for all rewards and metrics of one rollout."""
    tool: float | None = 120.0
    """Seconds of one tool call."""
    tool_output: int | None = 100_000
    """Characters of one tool result; the middle of a longer one is left out, and marked."""


@dataclass
class Deadline:
    """A timeout that can stand still: time spent queueing, pausing or retrying is given back."""

    scope: asyncio.Timeout
    pauses: int = 0
    left: float | None = None
    """Seconds to the end of a clock that stands still, negative where that is past; None while it runs."""

    @contextmanager
    def paused(self) -> Generator[None]:
        """The clock stands still inside; nested and parallel pauses count once."""
        self._pause()
        try:
            yield
        finally:
            self._resume()

    def give_back(self, seconds: float) -> None:
        """Add time that was lost to somebody else's failure."""
        if self.left is not None:
            self.left += seconds
        elif (when := self.scope.when()) is not None and not self.scope.expired():
            self.scope.reschedule(when + seconds)

    def within(self, seconds: float) -> None:
        """Be over in this many seconds at the latest, for an episode whose task gives it less time than the limits."""
        if self.pauses:
            self.left = seconds if self.left is None else min(self.left, seconds)
        elif not self.scope.expired():
            due = asyncio.get_running_loop().time() + seconds
            self.scope.reschedule(due if (when := self.scope.when()) is None else min(when, due))

    def _pause(self) -> None:
        self.pauses += 1
        when = self.scope.when()
        if self.pauses == 1 and when is not None and not self.scope.expired():
            self.left = when - asyncio.get_running_loop().time()
            self.scope.reschedule(None)

    def _resume(self) -> None:
        self.pauses -= 1
        if self.pauses == 0 and self.left is not None:
            if not self.scope.expired():
                self.scope.reschedule(asyncio.get_running_loop().time() + self.left)
            self.left = None
