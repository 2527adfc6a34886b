"""A history that is shortened where the model's window fills."""

from __future__ import annotations

from envkit import Message
from envkit.types import Usage

FULL = 0.75
"""The share of the window from which older results are shortened."""
KEPT = 6
"""The newest results, which stay as they are."""
SHORT = 300
"""Characters that stay of an older one."""


def compact(messages: list[Message], usage: Usage | None, window: int) -> None:
    """Shorten all but the newest tool results, where the last call used most of the window."""
    if usage is None or usage.prompt_tokens + usage.completion_tokens < FULL * window:
        return
    results = [i for i, message in enumerate(messages) if message.role == "tool"]
    for i in results[:-KEPT]:
        text, id = messages[i].text, messages[i].tool_call_id  # noqa: A001 - what the wire calls it
        if len(text) > SHORT and id is not None:
            left = len(text) - SHORT
            messages[i] = Message.tool(f"{text[:SHORT]}\n[... {left:,} characters were left out since ...]", id)
