"""The one network seam: a `Client` completes a `Request`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envkit.limits import Deadline
from envkit.task import Task
from envkit.types import Message, Usage


@dataclass(slots=True)  # frozen, it would take three times as long to make
class Request:
    """One call of a model.

    `sampling` holds only what someone set. `tokens` asks for token ids and logprobs. `task`, `sample`, `agent`
    and `call` (the index of this call among the agent's) say whose call it is: a replay is found by them.
    """

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tokens: bool = False
    task: Task | None = None
    sample: int = 0
    agent: str = "policy"
    call: int = 0
    deadline: Deadline | None = None
    """The clock of the rollout, which stands still while the client queues or waits to try again."""

    def size(self) -> int:
        """Characters of its prompt as JSON in ASCII: more than the tokens that it takes."""
        return len(json.dumps([[message.to_wire() for message in self.messages], list(self.tools)]))


@dataclass(slots=True)
class Completion:
    """What a model answered.

    The token fields are None unless asked for: `prompt_ids` and `completion_ids` int32, `logprobs` float32 with
    one entry for each completion id.
    """

    message: Message
    finish_reason: str = "stop"
    usage: Usage | None = None
    model: str | None = None
    prompt_ids: array[int] | None = None
    completion_ids: array[int] | None = None
    logprobs: array[float] | None = None
    version: str | None = None
    retries: int = 0
    cost: float | None = None
    """US dollars, where the endpoint's prices are known."""
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was really sent: the request's sampling over the endpoint's."""


class Client(ABC):
    """Where completions come from. A subclass writes `complete`; what it raises says whose fault a failure is:
    `ModelError` for the endpoint's (after the client's own retries), `ContextOverflow` for a prompt too long."""

    name: str = "model"
    """The model's name, for reports and records."""

    def about(self) -> dict[str, Any]:
        """What a run records of this client; never a key."""
        return {"client": type(self).__name__, "model": self.name}

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """The model's answer to one request. May be cancelled at any await."""

    async def close(self) -> None:  # noqa: B027 - most clients hold nothing open
        """Free connections. A client can be used again afterwards."""
