"""What a run has come to so far, where its finished rollouts go, and why it stops before its end, if it does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from envkit.environment import Environment
from envkit.errors import EnvkitError
from envkit.lifecycle import is_member
from envkit.report import RolloutRow, latest
from envkit.runs import GROUP_LAYER, RunWriter
from envkit.slots import Slots
from envkit.task import Task
from envkit.trace import Trace

Stopped = Literal["interrupted", "endpoint", "budget", "disk", "data"]

SAME_FAILURES = 20
"""Identical failures of the model in a row, none worth a retry, after which a run stops: by then it is the endpoint."""
_COUNTED = re.compile(r"[\w-]*\d[\w-]*")
"""A word with a digit in it, such as a request's id or a time: two failures that differ in no more are identical."""


@dataclass(frozen=True)
class Budget:
    """What a run may use: US dollars, and prompt and completion tokens together. It drains when either is reached."""

    cost: float | None = None
    tokens: int | None = None


@dataclass
class Progress:
    """The finished rollouts by (task hash, sample), the latest attempt of each; saved as they come."""

    env: Environment[Any]
    slots: Slots
    budget: Budget = field(default_factory=Budget)
    directory: RunWriter | None = None
    changes: tuple[str, ...] = ()
    done: dict[tuple[str, int], RolloutRow] = field(default_factory=dict[tuple[str, int], RolloutRow])
    cost: float = 0.0
    tokens: int = 0
    stopped: Stopped | None = None
    why: str | None = None
    problem: EnvkitError | None = None
    superseded: list[RolloutRow] = field(default_factory=list[RolloutRow])
    """Rows of attempts that a later one took the place of; they were paid for all the same."""
    _alike: int = 0
    _last_failure: tuple[int | None, str] | None = None

    def __post_init__(self) -> None:
        rows = self.directory.rows() if self.directory else []
        self.done = {(row.task_hash, row.sample): row for row in latest(rows)}
        self.superseded = [row for row in rows if self.done[row.task_hash, row.sample] is not row]
        for row in rows:
            self._spend(row)
        self._watch_budget()

    def missing(self, task: Task, k: int, retry: frozenset[str]) -> list[int]:
        """The samples of this task that are still to be done, failures of the kinds in `retry` among them."""
        rows = [self.done.get((task.hash, sample)) for sample in range(k)]
        return [i for i, row in enumerate(rows) if row is None or (row.outcome == "failed" and row.error_kind in retry)]

    def attempt(self, task: Task, sample: int) -> int:
        """The number of the next attempt at this sample."""
        row = self.done.get((task.hash, sample))
        return 0 if row is None else row.attempt + 1

    def save(self, trace: Trace) -> None:
        """Keep one finished trace. A disk that takes no more stops the run; what it already took stays."""
        if self.changes:
            trace.changes = self.changes
        try:
            row = RolloutRow.of(trace) if self.directory is None else self.directory.append(trace)
        except OSError as error:
            self._stop_for_the_disk(error)
            return
        key = (row.task_hash, row.sample)
        if key in self.done:
            self.superseded.append(self.done[key])
        self.done[key] = row
        self._spend(row)
        self._watch_endpoint(trace)
        self._watch_budget()
        self._watch_meter(trace)

    def expect(self, task: Task) -> None:
        """Rollouts of this task are to come."""
        if self.directory is not None:
            self.directory.expect(task)

    def earlier(self, task: Task, samples: list[int], k: int) -> list[Trace]:
        """The members of this task's group that are not run again, for its group rewards."""
        if self.directory is None or not self.env.group_rewards:
            return []
        rows = [self.done.get((task.hash, sample)) for sample in range(k) if sample not in samples]
        return list(self.directory.traces(row for row in rows if row is not None))

    def lacks_group_rewards(self, task: Task, k: int) -> bool:
        """Whether a group was finished, but its group rewards were not saved: a run was killed between the two."""
        rows = [self.done.get((task.hash, sample)) for sample in range(k)]
        members = [row for row in rows if row is not None and is_member(self.env, row)]
        names = {reward.name for reward in self.env.group_rewards}
        return len(members) > 1 and not all(names <= row.rewards.keys() for row in members)

    def save_group(self, traces: list[Trace]) -> None:
        """Keep what the group rewards said of these traces; a disk that takes no more stops the run."""
        if not self.env.group_rewards:
            return
        try:
            if self.directory is not None:
                self.directory.layer(GROUP_LAYER, traces)
        except OSError as error:
            self._stop_for_the_disk(error)
            return
        for trace in traces:
            key = (trace.task_hash, trace.sample)
            if key in self.done:
                self.done[key] = self.done[key].scored_as(trace)

    def stop(self, stopped: Stopped, why: str) -> None:
        """Launch nothing more; the first reason stays."""
        if self.stopped is None:
            self.stopped, self.why = stopped, why
            self.slots.closed.set()

    def _stop_for_the_disk(self, error: OSError) -> None:
        self.stop("disk", f"the run directory takes no more: {error.strerror}. Free space, then resume.")

    def _spend(self, row: RolloutRow) -> None:
        self.cost += row.cost or 0.0
        self.tokens += row.prompt_tokens + row.completion_tokens

    def _watch_budget(self) -> None:
        if self.budget.cost is not None and self.cost >= self.budget.cost:
            self.stop("budget", f"the budget of ${self.budget.cost:g} is spent (${self.cost:.4f})")
        if self.budget.tokens is not None and self.tokens >= self.budget.tokens:
            self.stop("budget", f"the budget of {self.budget.tokens:,} tokens is spent ({self.tokens:,})")

    def _watch_meter(self, trace: Trace) -> None:
        """A budget of what nobody counts would never be spent: the first such answer stops the run."""
        if self.budget.cost is None and self.budget.tokens is None:
            return
        answered = [turn for turn in (*trace.turns, *trace.judging) if turn.model is not None]
        if self.budget.tokens is not None and any(turn.usage is None for turn in answered):
            self.stop(
                "budget",
                f"the budget of {self.budget.tokens:,} tokens cannot be kept: the server does not say how many an "
                "answer took (it sends no `usage`). Resume without it, or let the server send it.",
            )
        if self.budget.cost is not None and any(turn.cost is None for turn in answered):
            self.stop(
                "budget",
                f"the budget of ${self.budget.cost:g} cannot be kept: what an answer cost is not known, for want of "
                "the server's `usage` or of the endpoint's prices. Resume without it, or see to both.",
            )

    def _watch_endpoint(self, trace: Trace) -> None:
        error = trace.error
        broken = error is not None and error.kind == "model" and not error.retryable
        failure = (error.status, _COUNTED.sub("#", error.message)) if error is not None and broken else None
        self._alike = 0 if failure is None else self._alike + 1 if failure == self._last_failure else 1
        self._last_failure = failure
        if error is not None and self._alike >= SAME_FAILURES:
            self.stop("endpoint", f"{SAME_FAILURES} rollouts in a row failed alike: {error.message}")
