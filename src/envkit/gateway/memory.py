"""What a program was told, so that what comes back of it is known for what the model said, byte for byte.

Programs send a reply back without its reasoning, where their dialect has no place for it, and with arguments that were
objects in between. A prompt of such messages continues no turn: here they become what they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from envkit.types import Message, ToolCall

_Loose = tuple[str, tuple[ToolCall, ...]]


class Memory:
    """The replies of one gateway, by what they answered."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, Message], int] = {}
        self._replies: dict[tuple[int, _Loose], Message] = {}
        self._calls: dict[tuple[str, str, bytes], ToolCall] = {}
        self._conversations: dict[str, tuple[Message, ...]] = {}

    def keep(self, prompt: Sequence[Message], reply: Message) -> None:
        """Remember that this was answered so."""
        node = 0
        for message in prompt:
            node = self._children.setdefault((node, message), len(self._children) + 1)
        for text in (_whole(reply), reply.text):
            self._replies[node, (text, reply.tool_calls)] = reply
        for call in reply.tool_calls:
            for meant in _forms(call):
                self._calls[call.id, call.name, meant] = call

    def restored(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, with replies as they were given.

        A call is known by its id and what its arguments mean. A reply is known by its text and calls where all that
        precedes it is what it answered, and then has its reasoning again, unless the program says another one.
        """
        whole: list[Message] = []
        node: int | None = 0
        for message in messages:
            restored = self._restored(message, node) if message.role == "assistant" else message
            whole.append(restored)
            node = None if node is None else self._children.get((node, restored))
        return whole

    def keep_conversation(self, answer: str, messages: Sequence[Message]) -> None:
        """Remember what the answer with this id is the end of."""
        self._conversations[answer] = tuple(messages)

    def conversation(self, answer: str) -> tuple[Message, ...] | None:
        """What ends with the answer of this id."""
        return self._conversations.get(answer)

    def _restored(self, message: Message, node: int | None) -> Message:
        calls = tuple(self._calls.get((c.id, c.name, _forms(c)[0]), c) for c in message.tool_calls)
        if calls != message.tool_calls:
            message = message.model_copy(update={"tool_calls": calls})
        if node is None:
            return message
        given = self._replies.get((node, (_whole(message), calls)))
        if given is None or (message.reasoning is not None and message.thinking != given.thinking):
            return message
        return given


def _whole(message: Message) -> str:
    """All text of a reply, with the thinking that a server left in it."""
    return message.content if isinstance(message.content, str) else message.text


def _forms(call: ToolCall) -> list[bytes]:
    """What the arguments mean, in each form in which a dialect may have told them; as a program sends them, first."""
    wrapped = orjson.dumps({"input": call.arguments}, option=orjson.OPT_SORT_KEYS)
    try:
        said = orjson.loads(call.arguments or "{}")
        return [orjson.dumps(said, option=orjson.OPT_SORT_KEYS), wrapped]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # no JSON, or nested deeper than it is written
        return [wrapped]
