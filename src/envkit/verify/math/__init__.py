"""Whether a response gives the right mathematical answer.

    from envkit.verify.math import grade

    verdict = grade(r"\\frac{1}{2}", r"... so the probability is $\\boxed{0.5}$.")
    assert verdict and verdict.answer == "0.5"

The answer is the last box after the last `</think>` (leniently, also what "the answer is" announces). Answers are
compared as values: exactly where they are rational, to 50 digits at fixed points where they have letters, by structure
where they are lists, sets, intervals, tuples, equations, matrices or words. A decimal stands for an irrational number
only with seven significant digits or more, all of them right; a rounded gold needs the task's own `rel_tol`. Case
counts; a bare letter is a variable, never a unit; units that one side leaves out are ignored, units that conflict are
wrong. What stays undecided is asked of sympy in a worker process that can be killed. Nothing is evaluated as code, and
every step is bounded, whatever a reply holds.

It needs nothing of the rest of envkit, gives the same verdicts in any thread, and `agrade` the same under asyncio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from envkit.verify.math.compare import Outcome, compare, readable
from envkit.verify.math.extract import Extracted, MissingReason, Mode
from envkit.verify.math.extract import extract as find_answer

__all__ = ["Reason", "Verdict", "agrade", "grade"]

Reason = Literal[
    "equal", "different", "empty", "no_box", "unclosed_think", "parse", "undecided", "timeout", "guard", "gold"
]
"""Why: equal or different in value; no answer to be found (empty, no_box, unclosed_think); an answer that cannot be
read (parse) or is too large to be worked out (guard, timeout), or that could not be shown to be equal (undecided); a
gold that cannot be read."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`correct` is None where the gold cannot be read, and True only where equality was shown.

    An answer that nobody can work out is not correct, rather than undecided: else a model could write its way out of
    being wrong. `span` are the answer's character offsets in the response. True as a condition exactly when correct.
    """

    correct: bool | None
    answer: str | None
    span: tuple[int, int] | None
    reason: Reason

    def __bool__(self) -> bool:
        return self.correct is True


def grade(gold: str, response: str, *, extract: Mode = "lenient", rel_tol: float | None = None) -> Verdict:
    """The verdict on this response. `extract="strict"` takes boxes only; `rel_tol` is the gold's own relative
    tolerance. Never raises for what `gold` and `response` hold."""
    found = find_answer(response, extract)
    if not isinstance(found, Extracted):
        return _unanswered(gold, found)
    outcome: Outcome | Literal["timeout"] = compare(gold, found.text, rel_tol)
    if outcome == "undecided":
        from envkit.verify.math.fallback import equal

        outcome = equal(gold, found.text)
    return _verdict(found, outcome)


async def agrade(gold: str, response: str, *, extract: Mode = "lenient", rel_tol: float | None = None) -> Verdict:
    """The same verdict without holding the event loop: only what a worker has to decide is waited for."""
    found = find_answer(response, extract)
    if not isinstance(found, Extracted):
        return _unanswered(gold, found)
    outcome: Outcome | Literal["timeout"] = compare(gold, found.text, rel_tol)
    if outcome == "undecided":
        from envkit.verify.math.fallback import aequal

        outcome = await aequal(gold, found.text)
    return _verdict(found, outcome)


def _unanswered(gold: str, reason: MissingReason) -> Verdict:
    return Verdict(False, None, None, reason) if readable(gold) else Verdict(None, None, None, "gold")


def _verdict(found: Extracted, outcome: Outcome | Literal["timeout"]) -> Verdict:
    correct = None if outcome == "gold" else outcome == "equal"
    return Verdict(correct, found.text, found.span, outcome)
