"""What a program was told, so that what comes back of it is known for what the model said, byte for byte.

Programs send a reply back without its reasoning, where their dialect has no place for it, and with arguments that were
objects in between. A prompt of such messages continues no turn: here they become what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import orjson

from envkit.types import Message, ToolCall

_Told = tuple[str, tuple[tuple[str, str, bytes], ...]]
"""A reply as a program may send it back: its text, and of each call the id, the name and the meaning."""


class Memory:
    """The replies of one gateway, by what they answered."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, Message], int] = {}
        self._replies: dict[tuple[int, _Told], Message] = {}
        self._calls: dict[tuple[str, str, bytes], ToolCall] = {}
        self._said: list[tuple[int, Message]] = []
        """Of each node after the root, the one before it and the message between the two."""
        self._ends: dict[str, int] = {}
        """The node at which the answer of an id ends."""

    def keep(self, prompt: Sequence[Message], reply: Message) -> None:
        """Remember that this was answered so."""
        node = self._grown(prompt)
        meant = _meant(reply)
        for text in (_whole(reply), reply.text):
            self._replies[node, (text, meant)] = reply
        self._calls.update(zip(meant, reply.tool_calls, strict=True))

    def restored(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, with replies as they were given.

        A reply is known by its text and calls where all that precedes it is what it answered, and then has its
        reasoning again, unless the program says another one. Elsewhere its calls are known, each by itself.
        """
        whole: list[Message] = []
        node: int | None = 0
        for message in messages:
            restored = self._restored(message, node) if message.role == "assistant" else message
            whole.append(restored)
            node = None if node is None else self._children.get((node, restored))
        return whole

    def keep_conversation(self, answer: str, messages: Sequence[Message]) -> None:
        """Remember what the answer with this id is the end of: as a node, since each conversation begins as the one
        that it continues."""
        self._ends[answer] = self._grown(messages)

    def conversation(self, answer: str) -> list[Message] | None:
        """What ends with the answer of this id."""
        node = self._ends.get(answer)
        if node is None:
            return None
        messages: list[Message] = []
        while node:
            node, message = self._said[node - 1]
            messages.append(message)
        return messages[::-1]

    def _grown(self, messages: Sequence[Message]) -> int:
        """The node at which these messages end, which is made where there is none yet."""
        node = 0
        for message in messages:
            step = (node, message)
            node = self._children.setdefault(step, len(self._children) + 1)
            if node > len(self._said):
                self._said.append(step)
        return node

    def _restored(self, message: Message, node: int | None) -> Message:
        meant = _meant(message)
        if node is not None:
            given = self._replies.get((node, (_whole(message), meant)))
            if given is not None and (message.reasoning is None or message.thinking == given.thinking):
                return given
        calls = tuple(self._calls.get(key, call) for key, call in zip(meant, message.tool_calls, strict=True))
        return message if calls == message.tool_calls else message.model_copy(update={"tool_calls": calls})


def _whole(message: Message) -> str:
    """All text of a reply, with the thinking that a server left in it."""
    return message.content if isinstance(message.content, str) else message.text


def _meant(message: Message) -> tuple[tuple[str, str, bytes], ...]:
    return tuple((call.id, call.name, _meaning(call.arguments)) for call in message.tool_calls)


def _meaning(arguments: str) -> bytes:
    """The same for arguments that say the same: however the JSON is written, and out of the `{"input": text}` in which
    a dialect of objects tells of what is no object, and a custom tool of its text."""
    while True:
        try:
            said = orjson.loads(arguments or "{}")
            if not isinstance(said, dict):
                return arguments.encode("utf-8", "surrogatepass")
            fields = cast("dict[str, Any]", said)
            inner = fields.get("input")
            if len(fields) > 1 or not isinstance(inner, str):
                return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # no JSON, or nested deeper than it is written
            return arguments.encode("utf-8", "surrogatepass")
        arguments = inner
