"""A history that is shortened where the model's window fills."""

from __future__ import annotations

from collections.abc import Sequence

from envkit import Message
from envkit.types import Usage

FULL = 0.75
"""The share of the window from which older results are shortened."""
KEPT = 6
"""The newest results, which stay as they are."""
SHORT = 300
"""Characters that stay of an older one."""
CHARACTERS = 3
"""Of a token, at the least on average: for messages that no server has counted yet."""


def longest(window: int) -> int:
    """Characters that one result may have, so that the newest ones together leave room in the window."""
    return max(1000, window * CHARACTERS // (2 * KEPT))


def compact(messages: list[Message], usage: Usage | None, window: int) -> None:
    """Shorten all but the newest tool results, where the next prompt would take most of the window.

    `usage` is the server's count of the last call; what came after it, or all where it counts nothing, is estimated.
    """
    last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
    if usage is None:
        tokens = _estimate(messages)
    else:
        tokens = usage.prompt_tokens + usage.completion_tokens + _estimate(messages[last + 1 :])
    if tokens < FULL * window:
        return
    results = [i for i, message in enumerate(messages) if message.role == "tool"]
    for i in results[:-KEPT]:
        text, id = messages[i].text, messages[i].tool_call_id  # noqa: A001 - what the wire calls it
        if len(text) > SHORT + len(MARK) and id is not None:
            messages[i] = Message.tool(text[:SHORT] + MARK.format(len(text) - SHORT), id)


MARK = "\n[... {:,} characters were left out since ...]"


def _estimate(messages: Sequence[Message]) -> int:
    written = sum(len(m.text) + sum(len(call.arguments) for call in m.tool_calls) for m in messages)
    return written // CHARACTERS
