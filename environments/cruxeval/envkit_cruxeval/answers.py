"""What a reply predicts: the expression in its assertion, found as CRUXEval's harness finds it."""

from __future__ import annotations


def predicted_output(reply: str) -> str:
    """What stands right of the "==" in the answer."""
    answer = _answer(reply)
    return answer.split("==")[1].strip() if "==" in answer else answer


def predicted_input(reply: str) -> str:
    """What stands left of the "==" in the answer, without the word assert: a call of f."""
    answer = _answer(reply).split("==")[0].strip()
    return answer.split("assert")[1].strip() if "assert" in answer else answer


def _answer(reply: str) -> str:
    """The text between the first tags, without which the whole reply counts; [/ANSWER] is the harness's stop word."""
    parts = reply.split("[ANSWER]")
    answer = parts[1] if len(parts) > 1 else reply
    return answer.split("[/ANSWER]")[0].strip()
