"""Whose fault a failure is, decided where it happens.

    EnvkitError(kind, retryable)
    ├── ModelError    the endpoint failed, or a role that is not the policy was cut short
    ├── EnvError      the environment's own code raised
    ├── InfraError    sandbox, disk, worker, a tool's service
    └── UsageError    what the person typed or passed cannot be run
    Truncated(BaseException)   control flow: a limit ended the policy's episode, which is then scored

A failed rollout is data with `reward=None`; it is never a zero and never a crash.
"""

from __future__ import annotations

from typing import Literal

ErrorKind = Literal["model", "env", "infra", "usage"]
TruncationReason = Literal["max_turns", "max_total_tokens", "context", "length", "timeout"]


class EnvkitError(Exception):
    """The root of envkit's errors; `kind` says whose fault it is, `retryable` whether another try may succeed."""

    kind: ErrorKind = "env"
    retryable: bool = False
    phase: str = ""
    """Where in a rollout's life it happened; told by the lifecycle."""


class ModelError(EnvkitError):
    """The endpoint failed. `status` is the HTTP status, None where there was no answer at all."""

    kind: ErrorKind = "model"

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable


class ContextOverflow(ModelError):
    """The prompt does not fit the model's window: `Truncated("context")` when it is the policy's.

    `prompt` and `window` are tokens, None where the server does not say, and `window` also where no room was asked for
    the answer. `advice` is the sentence for a prompt that would have fitted without it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        prompt: int | None = None,
        window: int | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message, status=status)
        self.prompt, self.window, self.advice = prompt, window, advice

    def would_fit(self, at_most: int) -> bool:
        """Whether the prompt fits but for the room asked for its answer: by the server's count, else if it has
        `at_most` so many tokens."""
        prompt = at_most if self.prompt is None else self.prompt
        return self.window is not None and prompt < self.window


class AnswerTooLong(ModelError):
    """The room asked for the answer leaves too little of the model's window for the prompt: a setting is wrong."""


class EnvError(EnvkitError):
    """The environment's own code raised; the cause is chained."""

    kind: ErrorKind = "env"


class InfraError(EnvkitError):
    """Something under the rollout failed that neither the model nor the environment answers for."""

    kind: ErrorKind = "infra"
    retryable = True


class UsageError(EnvkitError):
    """What the person typed or passed cannot be run; the message says what to do instead."""

    kind: ErrorKind = "usage"


class Truncated(BaseException):
    """A limit ended the policy's episode. Not an error: the partial trajectory is scored.

    A BaseException, so that an environment's `except Exception` cannot swallow the end of its own episode.
    """

    def __init__(self, reason: TruncationReason) -> None:
        super().__init__(reason)
        self.reason: TruncationReason = reason
