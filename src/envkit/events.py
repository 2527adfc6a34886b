"""The one stream of what happens in a run; progress, logs and a library user's listener all read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envkit.trace import Trace, Turn

if TYPE_CHECKING:
    from envkit.sandbox.base import Reason


@dataclass(slots=True)
class RolloutStarted:
    """A rollout is live."""

    trace: Trace


@dataclass(slots=True)
class CallEnded:
    """A model answered (or failed: `turn` is None and `error` says how)."""

    trace: Trace
    agent: str
    turn: Turn | None = None
    error: str | None = None


@dataclass(slots=True)
class ToolEnded:
    """A tool was called; `error` is what went back to the model in place of a result, or what ended the episode."""

    trace: Trace
    tool: str
    seconds: float
    error: str | None = None


@dataclass(slots=True)
class SandboxStarted:
    """A rollout got a box, for its episode or for its grading, after so many seconds of waiting and starting."""

    trace: Trace
    grading: bool
    seconds: float


@dataclass(slots=True)
class ExecEnded:
    """A program ran to its end in a box, by the box's own clock in so many seconds."""

    trace: Trace
    grading: bool
    seconds: float
    reason: Reason


@dataclass(slots=True)
class SandboxClosed:
    """A box is gone, after so many seconds; with an `error` it may not be, and is left to the next sweep."""

    trace: Trace
    grading: bool
    seconds: float
    error: str | None = None


@dataclass(slots=True)
class Scored:
    """A rollout's rewards are known."""

    trace: Trace


@dataclass(slots=True)
class RolloutEnded:
    """A rollout is finished and, unless it failed, scored."""

    trace: Trace


@dataclass(slots=True)
class LoopHeld:
    """A function held the event loop; `envkit.blocking(fn)` would move what takes long to a thread.

    Of a sync tool that holds it for seconds it comes once from another thread, while the tool still does.
    """

    trace: Trace
    function: str
    seconds: float


Event = (
    RolloutStarted
    | CallEnded
    | ToolEnded
    | SandboxStarted
    | ExecEnded
    | SandboxClosed
    | Scored
    | RolloutEnded
    | LoopHeld
)
Listener = Callable[[Event], None]
