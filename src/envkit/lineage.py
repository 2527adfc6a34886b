"""Which earlier turn does a new prompt continue? One `Lineage` for each agent of a rollout answers it.

By tokens: the longest earlier turn whose full sequence (prompt and completion) is an exact prefix of the new
prompt's ids. Without tokens: the longest whose full conversation is a prefix of the new prompt's messages.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from envkit.types import Message


@dataclass(slots=True)
class _Node:
    """A turn, as the bytes of the ids that it added to the turn it continues, and the turns that continue it."""

    turn: int | None
    added: bytes
    children: list[_Node] = field(default_factory=list["_Node"])


class Lineage:
    """The conversations of one agent so far. Memory is linear in what was said, not in turns times length."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, Message], int] = {}
        self._turn_at: dict[int, int] = {}
        self._last: tuple[list[Message], int] = ([], 0)
        self._newest: tuple[int, list[Message]] | None = None
        self._root: _Node | None = None

    def by_messages(self, prompt: Sequence[Message]) -> tuple[int | None, int]:
        """The turn that the prompt continues and how many of its messages that covers; (None, 0) for none."""
        if self._newest is None and not self._children:  # nothing was said yet
            return None, 0
        self._grow()
        best: tuple[int | None, int] = (None, 0)
        said, node = self._last
        if said and prompt[: len(said)] == said:
            best = (self._turn_at[node], len(said))
        else:
            node = 0
        for length, message in enumerate(prompt[best[1] :], best[1] + 1):
            child = self._children.get((node, message))
            if child is None:
                break
            node = child
            if node in self._turn_at:
                best = (self._turn_at[node], length)
        return best

    def add_messages(self, turn: int, conversation: list[Message]) -> None:
        """Remember that `turn` ended with this conversation."""
        self._grow()
        self._newest = (turn, conversation)

    def by_tokens(self, prompt: array[int]) -> tuple[int | None, int]:
        """The turn whose tokens the prompt continues and how many ids that covers; (None, 0) for none."""
        node, length = self._longest(prompt.tobytes())
        return node.turn, length // prompt.itemsize

    def add_tokens(self, turn: int, prompt: array[int], completion: array[int]) -> None:
        """Remember that `turn` ended with these ids."""
        ids = prompt.tobytes()
        node, length = self._longest(ids)
        node.children.append(_Node(turn, ids[length:] + completion.tobytes()))

    def _grow(self) -> None:
        """Take in the newest conversation; only now, since most agents never speak again."""
        if self._newest is None:
            return
        turn, conversation = self._newest
        said, node = self._last
        if conversation[: len(said)] != said:
            said, node = [], 0
        for message in conversation[len(said) :]:
            node = self._children.setdefault((node, message), len(self._children) + 1)
        self._turn_at[node] = turn
        self._last, self._newest = (conversation, node), None

    def _longest(self, ids: bytes) -> tuple[_Node, int]:
        """The turn with the longest sequence that `ids` begin with, and its bytes.

        All children that fit are followed, not the first: of two turns that continue one, either may be a prefix of
        the other, if the longer one was there first.
        """
        if self._root is None:
            self._root = _Node(None, b"")
        best, reached = self._root, 0
        fitting = [(best, 0)]
        while fitting:
            node, length = fitting.pop()
            if length >= reached:
                best, reached = node, length
            fitting += [(c, length + len(c.added)) for c in node.children if ids.startswith(c.added, length)]
        return best, reached
