"""How a run is coming along: a bar on a terminal, a line every 30 seconds elsewhere, fed by the event stream."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envkit.cli.console import say
from envkit.events import CallEnded, Event, LoopHeld, RolloutEnded, RolloutStarted, SandboxClosed
from envkit.report import RolloutRow
from envkit.stats import Z95, wilson
from envkit.terminal import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_EVERY = 30.0
"""Seconds between lines where there is no terminal: a night's log stays readable."""
FRAME_EVERY = 0.2
"""Seconds between frames of the bar: smooth enough to the eye, some 2 % of a core."""
WINDOW = 30.0
"""Seconds over which tokens per second are told."""


@dataclass
class Meter:
    """What the events add up to, at a cost that does not grow with the run."""

    total: int
    done: int = 0
    failed: int = 0
    truncated: int = 0
    unscored: int = 0
    live: int = 0
    started: float = field(default_factory=time.monotonic)
    _before: int = 0
    _scored: int = 0
    _sum: float = 0.0
    _binary: bool = True
    _tasks: dict[str, tuple[float, int]] = field(default_factory=dict[str, tuple[float, int]])
    _squares: tuple[float, float, int] = (0.0, 0.0, 0)
    """Over the tasks, with S the sum of a task's rewards and n their count: the sums of S², of S·n and of n²."""
    _calls: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])

    def begin_with(self, rows: Iterable[RolloutRow]) -> None:
        """Count the rollouts that an earlier part of the run has finished."""
        for row in rows:
            self._count(row.task_hash, row.outcome, row.reward)
        self._before = self.done

    def see(self, event: Event) -> None:
        match event:
            case RolloutStarted():
                self.live += 1
            case CallEnded(turn=turn) if turn is not None and turn.usage is not None:
                self._calls.append((time.monotonic(), turn.usage.completion_tokens))
            case RolloutEnded(trace):
                self.live -= 1
                self._count(trace.task_hash, trace.outcome, trace.reward)
            case _:
                pass

    def mean(self) -> float | None:
        """The mean reward of the scored; None before the first."""
        return self._sum / self._scored if self._scored else None

    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval, as the report will have it; None before there are two tasks."""
        mean, n, tasks = self.mean(), self._scored, len(self._tasks)
        if mean is None or tasks < 2:
            return None
        ss, sn, nn = self._squares
        spread = max(0.0, ss - 2 * mean * sn + mean * mean * nn)
        error = math.sqrt(spread * tasks / (tasks - 1)) / n
        if not self._binary:
            return mean - Z95 * error, mean + Z95 * error
        independent = n if n == tasks else mean * (1 - mean) / error**2 if error else tasks
        return wilson(mean, independent)

    def tokens_per_second(self) -> float:
        """Completion tokens per second over the last half minute."""
        now = time.monotonic()
        while self._calls and self._calls[0][0] < now - WINDOW:
            self._calls.popleft()
        seconds = min(WINDOW, now - self.started)
        return sum(tokens for _, tokens in self._calls) / seconds if seconds > 0 else 0.0

    def seconds_left(self) -> float | None:
        """Seconds to the end at the pace so far; None before the first rollout and after the last."""
        now_done = self.done - self._before
        if now_done == 0 or self.done >= self.total:
            return None
        return (time.monotonic() - self.started) / now_done * (self.total - self.done)

    def parts(self) -> list[str]:
        """What there is to say, in words."""
        mean, interval = self.mean(), self.interval()
        parts = [] if mean is None else [f"mean {mean:.3f}"]
        if interval is not None:
            parts[0] += f" [{interval[0]:.3f}, {interval[1]:.3f}]"
        for count, what in ((self.failed, "failed"), (self.truncated, "truncated"), (self.unscored, "unscored")):
            if count:
                parts.append(f"{count:,} {what}")
        if self.live:
            parts.append(f"{self.live:,} live")
        if speed := self.tokens_per_second():
            parts.append(f"{speed:,.0f} tok/s")
        return parts

    def _count(self, task: str, outcome: str, reward: float | None) -> None:
        self.done += 1
        self.failed += outcome == "failed"
        self.truncated += outcome == "truncated"
        self.unscored += outcome != "failed" and reward is None
        if reward is not None:
            total, count = self._tasks.get(task, (0.0, 0))
            more, now = total + reward, count + 1
            self._tasks[task] = (more, now)
            ss, sn, nn = self._squares
            self._squares = (
                ss + more * more - total * total,
                sn + more * now - total * count,
                nn + now * now - count * count,
            )
            self._binary = self._binary and reward in (0.0, 1.0)
            self._scored += 1
            self._sum += reward


class Display(ABC):
    """Shows a meter while a run goes on. `listen` is the run's listener."""

    every: float

    def __init__(self, title: str, meter: Meter) -> None:
        self.title, self.meter = one_line(title), meter
        self.introduced = False
        self._named: set[str] = set()

    def listen(self, event: Event) -> None:
        self.meter.see(event)
        if isinstance(event, LoopHeld) and event.function not in self._named:
            self._named.add(event.function)
            self.note(
                f"{event.function} held everything up for {event.seconds:.2f} s. "
                f"Wrapped in envkit.blocking(...) it would run in a thread."
            )

        if isinstance(event, SandboxClosed) and event.error is not None and "sandbox" not in self._named:
            self._named.add("sandbox")
            self.note(f"{one_line(event.error, 200)} The rollout goes on; the next run sweeps up what is left.")

    def introduce(self, title: str, finished: Iterable[RolloutRow], *, where: str) -> None:
        """The run begins: what it is called, the rollouts that were finished before, where it is saved."""
        self.title = one_line(title)
        self.meter.begin_with(finished)
        self.introduced = True
        before = f", {self.meter.done:,} of them finished before" if self.meter.done else ""
        rollouts = "1 rollout" if self.meter.total == 1 else f"{self.meter.total:,} rollouts"
        self.note(f"{title}: {rollouts}{before}, saved in {where}")

    @asynccontextmanager
    async def showing(self) -> AsyncGenerator[None]:
        """Show the meter at its pace until the block ends."""
        self.begin()
        ticker = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker
            self.end()

    def note(self, text: str) -> None:
        """Say something in between."""
        say(text)

    def begin(self) -> None:
        """Before the first drawing."""
        self.draw()

    def end(self) -> None:
        """The last drawing."""
        self.draw()

    @abstractmethod
    def draw(self) -> None: ...

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.every)
            self.draw()


class Lines(Display):
    """A line every 30 seconds."""

    every = LINE_EVERY

    def draw(self) -> None:
        meter = self.meter
        if not self.introduced:
            return
        left = meter.seconds_left()
        ahead = [] if left is None else [f"{duration(left)} left"]
        counted = f"{duration(time.monotonic() - meter.started)}  {meter.done:,}/{meter.total:,}"
        say("  ".join([counted, *meter.parts(), *ahead]))


class Bar(Display):
    """A bar, and a line of numbers under it."""

    every = FRAME_EVERY

    def __init__(self, title: str, meter: Meter) -> None:
        super().__init__(title, meter)
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True, markup=False, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)

    def begin(self) -> None:
        self._live.start()
        self.draw()

    def draw(self) -> None:
        self._live.update(self._frame(), refresh=True)

    def end(self) -> None:
        self.draw()
        self._live.stop()

    def _frame(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        meter = self.meter
        left = meter.seconds_left()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(self.title, style="bold", no_wrap=True, overflow="ellipsis"),
            ProgressBar(total=max(meter.total, 1), completed=meter.done, width=30),
            Text(f"{meter.done:,}/{meter.total:,}", no_wrap=True),
            Text("" if left is None else f"{duration(left)} left", style="cyan", no_wrap=True),
        )
        return Group(bar, Text("  ".join(meter.parts()) or "starting", style="dim", no_wrap=True, overflow="ellipsis"))


def display(title: str, total: int, *, bar: bool = True) -> Display:
    """A bar where stderr is a terminal (that nobody else writes to), else lines."""
    return (Bar if bar and sys.stderr.isatty() else Lines)(title, Meter(total))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as on a clock."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
