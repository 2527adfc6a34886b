"""The program that a reply stands for, and the form in which its function's results leave the box."""

from __future__ import annotations

STOPS = ('\n"""', "\nassert", "\nprint", "\nif __name__", "\n```")
"""Where a continuation has left the solution: at its own tests, or at the next problem."""


def completed(problem: str, reply: str) -> str | None:
    """The code that continues the problem's docstring, cut at the first stop, whether or not the reply repeats it."""
    beginning = problem.strip()
    text = reply.lstrip()
    code = text[len(beginning) :] if text.startswith(beginning) else reply
    return "\n" + code[: min(i for stop in STOPS if (i := (code + stop).find(stop)) >= 0)] if code.strip() else None


def plain(source: str, function: str) -> str:
    """The program with this function returning a plain dict in place of a Counter or another kind of dict, which
    EvalPlus, comparing by ==, takes for one."""
    return f"""{source}

def _plainly(function):
    def called(*arguments):
        result = function(*arguments)
        return dict(result) if isinstance(result, dict) else result
    return called

{function} = _plainly({function})
"""
