"""`Task`: one problem, frozen, with a stable id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError

from envkit.errors import EnvError
from envkit.sandbox.base import SandboxSpec
from envkit.types import Message


class Task(BaseModel):
    """One problem. Subclass it for fields of your own; keep them JSON.

    `id` is stable and unique in its dataset: never a row number where rows can move.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    id: str = Field(min_length=1, max_length=256)
    prompt: str | tuple[Message, ...] | None = None
    """What the policy's chat opens with: the user's text or whole messages; None where `run` writes it itself."""
    answer: Any = None
    sandbox: SandboxSpec | None = None
    """The box that this task needs, in place of the environment's."""

    @cached_property
    def hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the task's canonical JSON: equal tasks have equal hashes.

        EnvError where a field is no JSON.
        """
        try:
            fields = self.model_dump(mode="json")
        except PydanticSerializationError as error:
            raise EnvError(f"task {self.id!r} has a field that is no JSON, so it cannot be kept: {error}") from None
        if self.sandbox is None:
            fields.pop("sandbox", None)  # as before there were any
        try:
            canonical = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # an integer beyond 64 bits, which orjson refuses
            canonical = json.dumps(fields, sort_keys=True).encode()
        return hashlib.sha256(canonical).hexdigest()[:16]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with these fields changed, and a hash of its own."""
        copy = super().model_copy(update=update, deep=deep)
        vars(copy).pop("hash", None)
        return copy

    def messages(self) -> tuple[Message, ...]:
        """The prompt as messages."""
        if self.prompt is None:
            return ()
        return (Message.user(self.prompt),) if isinstance(self.prompt, str) else self.prompt


class RecordedTask(Task):
    """A task read from a run directory, where the environment's own class is not imported; its fields are extras."""

    model_config = ConfigDict(frozen=True, extra="allow")
