"""What a judge of code says: a `Verdict` over cases, made outside every box that ran the candidate's code."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from envkit.sandbox.base import ExecResult, Sandbox
from envkit.verify.code.extract import Program

Fresh = Callable[[], AbstractAsyncContextManager[Sandbox]]
"""How a judge gets a box that nobody has used; `Rollout.fresh_sandbox` is one."""

VERSION = "code-3"
"""Raised whenever a judge may answer differently than before, so that old verdicts can be told apart."""

SHOWN = 300
"""Characters of a text from a box that a verdict keeps."""


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """One case. `expected` and `got` are short and printable, for people; `wall` is in seconds, `peak_memory` in bytes.

    A case of `judge_calls` has the wall time that the candidate's interpreter told and the run's memory: good for
    people, no evidence.
    """

    passed: bool
    expected: str | None
    got: str | None
    reason: str
    wall: float = 0.0
    peak_memory: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`correct` only where every case was run and passed. True as a condition exactly when correct.

    `reason` says what the first failed case did, None where there is none; `answer` is the program that was judged,
    `span` its character offsets in the reply; `interpreter` is what ran it, `version` the judge's own.
    """

    correct: bool
    cases: tuple[CaseVerdict, ...]
    reason: str | None
    answer: str | None
    span: tuple[int, int] | None = None
    interpreter: str | None = None
    version: str = VERSION

    def __bool__(self) -> bool:
        return self.correct


def conclude(
    program: Program, cases: list[CaseVerdict], wanted: int, *, interpreter: str | None, reason: str | None = None
) -> Verdict:
    """The verdict over the cases that were judged of those wanted; `reason` is a failure beside them."""
    if reason is None:
        reason = next((case.reason for case in cases if not case.passed), None)
    if reason is None and len(cases) < wanted:
        reason = f"only {len(cases)} of {wanted} cases were run"
    shown = None if interpreter is None else printable(interpreter, 80)
    return Verdict(reason is None, tuple(cases), reason, program.source, program.span, shown)


def printable(text: str, most: int = SHOWN) -> str:
    """The text's beginning, without control characters, lone surrogates or what reorders a line on a terminal."""
    cut = text[:most]
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in cut)
    return shown + "…" if len(text) > most else shown


def without_addresses(text: str) -> str:
    """What Python says of an object, without where it lies, which is elsewhere in each run."""
    return re.sub(r" at 0x[0-9a-f]{4,16}\b", "", text[:10_000])


def shown_bytes(data: bytes, most: int = SHOWN) -> str:
    """As `printable`, for bytes that should be UTF-8."""
    text = data[: 4 * most + 4].decode("utf-8", "replace")
    return printable(text, most) + ("…" if len(data) > 4 * most + 4 and len(text) <= most else "")


def ending(result: ExecResult) -> str:
    """How a program ended that did not end well, for people."""
    match result.reason:
        case "timeout":
            return "ran past its time limit"
        case "memory":
            return "ran out of memory"
        case "output":
            return "wrote more than its output limit"
        case "killed":
            return "was killed"
        case "exit":
            pass
    if result.signal is not None:
        return f"was ended by signal {result.signal}"
    last = result.stderr[-2000:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"exited with code {result.code}" + (f": {printable(last, 200)}" if last else "")
