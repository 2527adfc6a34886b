"""What a server means that says that a request does not fit: that the prompt is too long, or that too much is asked.

The first ends an episode, which is then scored; the second is a setting, and the model answers for none. The numbers
in the server's sentence decide where there are any: most servers say both in the same words.
"""

from __future__ import annotations

import re

from envkit.errors import AnswerTooLong, ContextOverflow, ModelError

OVERFLOW = (
    "context_length_exceeded",
    "exceed_context_size_error",
    "maximum context length",
    "maximum model length",
    "maximum prompt length",
    "maximum allowed input length",
    "context window",
    "exceed context limit",
    "exceeds the available context size",
    "model's context length",
    "input is too long",
    "prompt is too long",
    "`inputs` tokens + `max_new_tokens` must be",
    "`inputs` must have less than",
)
"""How OpenAI, vLLM, llama.cpp, SGLang, TGI and gateways say that a request does not fit, in lower case."""

_WINDOW = re.compile(
    r"(?:context length|context window|model length) (?:is|of) (?:only )?(\d+)|`max_new_tokens` must be <= (\d+)"
)
_ASKED = re.compile(
    r"tokens\W{1,3}is too large: (\d+)|requested (\d+) output tokens|(\d+) (?:tokens )?(?:in|for) the completion"
    r"|(\d+) `max_new_tokens`"
)
_PROMPT = re.compile(
    r"(?<!at least )(?<!bound for )\b(\d+) input tokens|(\d+) in (?:the messages|your prompt)|(\d+) tokens from the"
    r"|(\d+) `inputs` tokens"
)
"""But not the lower bound of a vLLM that stops counting where it knows enough, nor its limit for the prompt."""
_SUM = re.compile(r"(\d+) \+ (\d+) > (\d+)")
"""Anthropic's prompt, answer and window."""
_TOO_LARGE = re.compile(r"max_(?:completion_|new_)?tokens\W.{0,40}(?:is too large|cannot be greater than|must be <=)")
_COMMA = re.compile(r"(?<=\d),(?=\d{3})")


def overflow(text: str, told: str, url: str, *, status: int | None = None) -> ModelError | None:
    """The error of a server that says `text` (`told` where it is shown), where that is of a request too long."""
    text = _COMMA.sub("", text.lower())
    if any(words in text for words in OVERFLOW):
        prompt, asked, window = _counts(text)
        if asked is not None and window is not None and asked >= window and (prompt is None or prompt < window):
            return AnswerTooLong(_too_much(url, asked, window), status=status)
        return ContextOverflow(
            f"the prompt does not fit the model's context: {told}",
            status=status,
            prompt=prompt,
            window=window if asked is not None else None,
            advice=_too_much(url, asked, window),
        )
    if _TOO_LARGE.search(text):
        return AnswerTooLong(f"{url}: {told.rstrip('.')}. Ask for fewer with --max-tokens.", status=status)
    return None


def _too_much(url: str, asked: int | None, window: int | None) -> str:
    """One sentence for all tasks, whatever their prompts: a run stops where all its rollouts fail alike."""
    return (
        f"{url}: the answer may take {asked} tokens (max_tokens) of a context of {window}, which leaves too few for "
        "the prompt. Ask for fewer with --max-tokens."
    )


def _counts(text: str) -> tuple[int | None, int | None, int | None]:
    """(tokens of the prompt, tokens asked for the answer, tokens of the window), each None where the text has none."""
    if (found := _SUM.search(text)) is not None:
        return int(found[1]), int(found[2]), int(found[3])
    return _first(_PROMPT, text), _first(_ASKED, text), _first(_WINDOW, text)


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return None if found is None else int(next(group for group in found.groups() if group is not None))
