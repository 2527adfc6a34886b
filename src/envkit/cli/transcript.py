"""A rollout as a person reads it: what was said and called, what it scored and why, what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator

from envkit.report import RolloutRow
from envkit.trace import Trace, Turn
from envkit.types import Message

MAX_TEXT = 20_000
"""Characters of one message that are shown; `--json` has all of them."""


def transcript(trace: Trace, row: RolloutRow) -> str:
    """The whole rollout; `row` has its scores where a layer was laid over them."""
    usage = trace.usage
    used = f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, {trace.timing.run:.1f} s"
    head = f"{trace.task_id}  sample {trace.sample}, attempt {trace.attempt}: {_ending(trace)}  ({used})"
    parts = [head, *_turns(trace)]
    if trace.task.answer is not None:
        parts.append(_block("gold answer", _short(trace.task.answer)))
    parts.append(_scores(trace, row))
    if trace.judging:
        parts += [_block(f"judge ({turn.agent})", _said(turn)) for turn in trace.judging]
    if trace.info:
        parts.append(_block("info", json.dumps(trace.info, indent=2, ensure_ascii=False)[:MAX_TEXT]))
    if trace.error is not None:
        error = trace.error
        detail = f"{error.kind} error in {error.phase}: {error.type}: {error.message}"
        parts.append(_block("error", f"{detail}\n{error.traceback or ''}".rstrip()))
    return "\n\n".join(part for part in parts if part)


def _ending(trace: Trace) -> str:
    return trace.outcome if trace.outcome != "truncated" else f"truncated by {trace.stop}"


def _turns(trace: Trace) -> Iterator[str]:
    """Each message once, in the order in which it came to be; whose it is where more than one agent speaks."""
    several = len({turn.agent for turn in trace.turns}) > 1
    for turn in trace.turns:
        who = f"{turn.agent}: " if several else ""
        for message in turn.prompt:
            yield _message(message, who)
        cut = "" if turn.finish_reason in ("stop", "tool_calls") else f", {turn.finish_reason}"
        yield _message(turn.reply, who, note=f"{turn.model or 'model'}{cut}")


def _message(message: Message, who: str = "", note: str = "") -> str:
    parts: list[str] = []
    if message.thinking:
        parts.append(f"(thinking) {message.thinking[:MAX_TEXT]}")
    if message.text:
        parts.append(_cut(message.text))
    parts += [f"(image {image.url or image.digest})" for image in message.images]
    parts += [f"→ {call.name}({call.arguments[:MAX_TEXT]})" for call in message.tool_calls]
    return _block(f"{who}{message.role}" + (f" ({note})" if note else ""), "\n".join(parts) or "(nothing)")


def _said(turn: Turn) -> str:
    asked = "\n".join(message.text for message in turn.prompt)
    return f"{_cut(asked)}\n→ {_cut(turn.reply.text)}"


def _scores(trace: Trace, row: RolloutRow) -> str:
    lines = [f"reward {'none' if row.reward is None else format(row.reward, 'g')}"]
    for name, value in {**row.rewards, **row.metrics}.items():
        score = trace.scores.get(name)
        why = [] if score is None else [
            *([f"answer {_short(score.answer)}"] if score.answer is not None else []),
            *([score.reason] if score.reason else []),
        ]  # fmt: skip
        metric = " (metric)" if name in row.metrics else ""
        lines.append(f"  {name}{metric}: {'undecided' if value is None else format(value, 'g')}  {'; '.join(why)}")
    return _block("scores", "\n".join(line.rstrip() for line in lines))


def _short(value: object) -> str:
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT:,} characters more"


def _block(title: str, text: str) -> str:
    return f"── {title} " + "─" * max(3, 60 - len(title)) + f"\n{text}"
