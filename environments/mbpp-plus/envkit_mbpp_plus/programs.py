"""The program that a reply stands for, and the form in which its function's results leave the box."""

from __future__ import annotations

STOPS = ('\n"""', "\nassert", "\nprint", "\nif __name__", "\n```")
"""Where a continuation has left the solution: at its own tests, or at the next problem."""

LONG = 20_000
"""Items of a result that are compared one by one."""


def completed(problem: str, reply: str) -> str | None:
    """The code that continues the problem's docstring, cut at the first stop, whether or not the reply repeats it."""
    beginning = problem.strip()
    text = reply.lstrip()
    code = text[len(beginning) :] if text.startswith(beginning) else reply
    return "\n" + code[: min(i for stop in STOPS if (i := (code + stop).find(stop)) >= 0)] if code.strip() else None


def plain(source: str, function: str) -> str:
    """The program with this function's results in a form that can leave the box.

    A Counter or another kind of dict becomes a plain one, as EvalPlus, comparing by ==, takes it for one. A list or
    tuple of more than LONG items becomes its length and a digest: a few references return millions of items.
    """
    return f"""{source}

def _plainly(function):
    import hashlib
    def called(*arguments):
        result = function(*arguments)
        if isinstance(result, dict):
            return dict(result)
        if type(result) not in (list, tuple) or len(result) <= {LONG}:
            return result
        digest = hashlib.sha256()
        for item in result:
            digest.update(repr(item).encode() + b"\\n")
        return [type(result).__name__, len(result), digest.hexdigest()]
    return called

{function} = _plainly({function})
"""
