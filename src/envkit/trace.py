"""`Turn` and `Trace`: the record of a rollout, with a lossless JSON round trip.

A turn stores only what is new beyond its parent, so a record grows linearly with the conversation.
"""

from __future__ import annotations

import base64
import os
import sys
from array import array
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator
from pydantic_core import PydanticSerializationError

from envkit import exact
from envkit.errors import ErrorKind
from envkit.task import Task
from envkit.types import Message, Record, Usage

if TYPE_CHECKING:
    from envkit.samples import Sample

SCHEMA = 1
_TASK = "_task"
Outcome = Literal["completed", "truncated", "failed"]


def _packed(code: str) -> Any:
    """The validator and serializer of an array of 4-byte numbers: base64, little-endian, in JSON."""

    def read(value: Any) -> array[Any]:
        if isinstance(value, str):
            numbers = array(code, base64.b64decode(value))
            if sys.byteorder == "big":
                numbers.byteswap()
            return numbers
        numbers = cast("array[Any]", value)
        return numbers if isinstance(value, array) and numbers.typecode == code else array(code, numbers)

    def write(numbers: array[Any]) -> str:
        if sys.byteorder == "big":
            numbers = numbers[:]
            numbers.byteswap()
        return base64.b64encode(numbers).decode()

    return (PlainValidator(read), PlainSerializer(write, when_used="json"))


if TYPE_CHECKING:
    Ids = array[int]
    Floats = array[float]
else:
    Ids = Annotated[array, *_packed("i")]
    Floats = Annotated[array, *_packed("f")]


_ids = Random()  # its own, not the one that a user may seed
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)


def _new_id() -> str:
    """32 hex digits that no other trace has; `uuid4` asks the kernel, for the price of a rollout on some machines."""
    return f"{_ids.getrandbits(128):032x}"


class Tokens(Record):
    """The tokens of one call: int32 ids, float32 logprobs, one for each id of the completion.

    `prompt` holds only what follows the parent turn's full sequence (all of it where there is no parent).
    """

    prompt: Ids
    completion: Ids
    logprobs: Floats
    version: str | None = None
    temperature: float = 1.0


class Turn(Record):
    """One model call: what was new in its prompt, what came back, and what it took.

    The whole prompt is the first `kept` messages of the parent's conversation (prompt and reply; all of them where
    `kept` is None), then `prompt`; `Trace.prompt(i)` puts it together.
    """

    agent: str = "policy"
    parent: int | None = None
    kept: int | None = None
    prompt: tuple[Message, ...] = ()
    reply: Message
    finish_reason: str = "stop"
    trainable: bool = True
    tools: tuple[str, ...] = ()
    """Names of the tools that were offered."""
    tokens: Tokens | None = None
    usage: Usage | None = None
    sampling: dict[str, Any] = Field(default_factory=dict)
    """What was sent to the endpoint beside the messages."""
    model: str | None = None
    seconds: float = 0.0
    retries: int = 0
    cost: float | None = None


class Score(Record):
    """What a reward says of a rollout: `value` (None: undecided, so the rollout is not scored) and why.

    `answer` is what was judged, `span` its character offsets in the reply. Where a program was run, `interpreter` is
    what ran it, and `judge` the version of what judged it. `fault` says whose fault it is that nothing was decided,
    where that was a failure: `model` of a judge that did not answer.
    """

    value: float | None
    answer: str | None = None
    reason: str | None = None
    span: tuple[int, int] | None = None
    interpreter: str | None = None
    judge: str | None = None
    fault: ErrorKind | None = None

    @classmethod
    def of(cls, verdict: Any) -> Score:
        """The score of a verifier's verdict: 1 where it is correct, 0 where not, None where it could not decide."""
        value = None if verdict.correct is None else float(verdict.correct)
        return cls(
            value=value,
            answer=verdict.answer,
            reason=verdict.reason,
            span=verdict.span,
            interpreter=getattr(verdict, "interpreter", None),
            judge=getattr(verdict, "version", None),
        )


class ToolUse(Record):
    """How often a tool was called in an episode, how often with an error (which went back to the model, or ended the
    episode), and seconds together."""

    calls: int = 0
    errors: int = 0
    seconds: float = 0.0


class ErrorRecord(Record):
    """A failure as it is kept: whose fault, in which phase (and reward or tool), with the traceback of code that
    raised."""

    kind: ErrorKind
    type: str
    message: str
    phase: str = "run"
    retryable: bool = False
    status: int | None = None
    traceback: str | None = None


class Timing(Record):
    """When a rollout began (Unix seconds) and how long its phases took (seconds)."""

    started: float = 0.0
    run: float = 0.0
    score: float = 0.0


_no_turns = cast("Callable[[], list[Turn]]", list)  # `list[Turn]`, called, takes five times as long


class Trace(BaseModel):
    """The record of one rollout.

    `reward` is the policy's, None where the rollout failed or a reward was undecided. `rewards` has each reward's
    value, `scores` what it said beyond the value, `agent_rewards` the sum for each agent. A judge's calls made in
    scoring are in `judging`, apart from the episode's `turns`. `tools` has what was called, by name.
    """

    model_config = ConfigDict(extra="allow", ser_json_inf_nan="constants", populate_by_name=True)

    schema_: int = Field(alias="schema")
    id: str
    env: str = ""
    task_id: str
    task_hash: str
    sample: int = 0
    attempt: int = 0
    seed: int = 0
    outcome: Outcome = "completed"
    stop: str = "done"
    """Why it ended: `done`, a limit's name, or `error`."""
    error: ErrorRecord | None = None
    reward: float | None = None
    rewards: dict[str, float | None] = Field(default_factory=dict)
    agent_rewards: dict[str, float] = Field(default_factory=dict)
    metrics: dict[str, float | None] = Field(default_factory=dict)
    scores: dict[str, Score] = Field(default_factory=dict)
    info: dict[str, Any] = Field(default_factory=dict)
    turns: list[Turn] = Field(default_factory=_no_turns)
    judging: list[Turn] = Field(default_factory=_no_turns)
    tools: dict[str, ToolUse] = Field(default_factory=dict)
    changes: tuple[str, ...] = ()
    """Inputs that had changed, and were accepted, when a resume ran this rollout."""
    timing: Timing = Timing()

    @classmethod
    def begin(cls, task: Task, *, env: str = "", sample: int = 0, attempt: int = 0, seed: int = 0) -> Trace:
        """An empty trace of this task."""
        trace = cls(
            schema=SCHEMA, id=_new_id(), env=env, task_id=task.id, task_hash=task.hash,
            sample=sample, attempt=attempt, seed=seed,
        )  # fmt: skip
        return trace.with_task(task)

    @property
    def task(self) -> Task:
        """The task; it is stored once beside the traces, not in each."""
        task: Task | None = vars(self).get(_TASK)
        if task is None:
            raise ValueError(f"trace {self.id} was read without its task {self.task_id!r}; attach it with `with_task`")
        return task

    def with_task(self, task: Task) -> Trace:
        """This trace with the task it belongs to."""
        vars(self)[_TASK] = task  # a private attribute of pydantic's would cost more than the rest of the trace
        return self

    def prompt(self, index: int) -> tuple[Message, ...]:
        """All messages that were sent in turn `index`."""
        return self.conversation(index)[:-1]

    def conversation(self, index: int) -> tuple[Message, ...]:
        """The prompt of turn `index` and its reply."""
        return tuple(conversation(self.turns, index))

    def prompt_ids(self, index: int) -> array[int]:
        """All token ids that were sent in turn `index`, int32; ValueError where a turn of its line has none."""
        ids = array("i")
        for turn in _line(self.turns, index):
            if turn.tokens is None:
                raise ValueError(f"trace {self.id} has a turn without token ids: it was not run with tokens=True")
            ids += turn.tokens.prompt
            if turn is not self.turns[index]:
                ids += turn.tokens.completion
        return ids

    def replies(self, agent: str = "policy") -> list[Message]:
        """What this agent said, in order."""
        return [turn.reply for turn in self.turns if turn.agent == agent]

    @property
    def usage(self) -> Usage:
        """The tokens of the episode's calls together, a judge's not among them."""
        used = [turn.usage for turn in self.turns if turn.usage is not None]
        return Usage(
            prompt_tokens=sum(u.prompt_tokens for u in used),
            completion_tokens=sum(u.completion_tokens for u in used),
            reasoning_tokens=sum(u.reasoning_tokens for u in used),
            cached_tokens=sum(u.cached_tokens for u in used),
        )

    def samples(self, max_len: int | None = None) -> list[Sample]:
        """Token sequences to train on; see `envkit.samples`."""
        from envkit.samples import samples

        return samples(self, max_len)

    def to_json(self) -> bytes:
        """One line of `rollouts.jsonl`, without its newline: fields that have their default are left out."""
        try:
            return self.__pydantic_serializer__.to_json(self, exclude_defaults=True, by_alias=True)
        except PydanticSerializationError:  # half of a surrogate pair
            return exact.dumps(self.model_dump(mode="json", exclude_defaults=True, by_alias=True))

    @classmethod
    def from_json(cls, line: bytes) -> Trace:
        """The trace that `to_json` wrote, without its task; ValueError where it is none."""
        return cls.model_validate(exact.loads(line))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        return self._recorded() == other._recorded() and self.model_extra == other.model_extra

    def _recorded(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != _TASK}


def conversation(turns: Sequence[Turn], index: int) -> list[Message]:
    """The prompt of turn `index` of these (a trace's `turns` or its `judging`) and its reply."""
    messages: list[Message] = []
    for turn in _line(turns, index):
        if turn.kept is not None:
            del messages[turn.kept :]
        messages += turn.prompt
        messages.append(turn.reply)
    return messages


def _line(turns: Sequence[Turn], index: int) -> list[Turn]:
    """The turn and its ancestors, the oldest first."""
    line: list[Turn] = []
    at: int | None = index
    while at is not None:
        line.append(turns[at])
        at = turns[at].parent
    return line[::-1]
