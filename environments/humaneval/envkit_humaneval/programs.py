"""The program that a reply stands for: a base model's continuation of the prompt, or a chat model's code block."""

from __future__ import annotations

import re

from envkit.verify.code import extract

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a continuation has left the function, as in openai/human-eval."""

HEADER = (
    "import collections, copy, datetime, functools, hashlib, heapq, itertools, math, re, string, sys\n"
    "from collections import *\nfrom typing import *\n"
)
"""What published evaluations of chat models import before the reply's code: many replies leave it out."""


def opening(code: str, function: str) -> str:
    """What stands before the function: imports, and the helpers that its tests call too."""
    return code[: _definition(function, code).start()]


def completed(code: str, function: str, reply: str) -> str | None:
    """A continuation joined to the prompt and cut at the first stop; a reply that defines the function by itself is
    the program, whether it repeats the prompt or not."""
    if not reply.strip():
        return None
    beginning = code.strip()
    if reply.lstrip().startswith(beginning):
        return beginning + _cut(reply.lstrip()[len(beginning) :])
    if _defines(reply, function):
        return reply
    return code + _cut(reply)


def replied(code: str, function: str, reply: str) -> str | None:
    """The code block that defines the function, as it stands; one that does not define it continues the prompt. None
    where there is no code."""
    program = extract(reply, must_define=function)
    if program is None:
        return None
    return _with_imports(program.source if _defines(program.source, function) else code + program.source)


def left_out(code: str, function: str, tests: str, program: str) -> str | None:
    """A function that the prompt has beside the one asked for, that the tests call and the program lacks."""
    helpers = re.findall(r"^def (\w+)", opening(code, function), re.MULTILINE)
    return next((name for name in helpers if f"{name}(" in tests and not _defines(program, name)), None)


def _with_imports(source: str) -> str:
    """The program below the usual imports, unless its own must come first."""
    return source if re.search(r"^from __future__", source, re.MULTILINE) else HEADER + source


def _cut(continuation: str) -> str:
    return continuation[: min(i for stop in STOPS if (i := (continuation + stop).find(stop)) >= 0)]


def _defines(program: str, function: str) -> bool:
    return re.search(_pattern(function), program, re.MULTILINE) is not None


def _pattern(function: str) -> str:
    return rf"^(async )?def {re.escape(function)}\b"


def _definition(function: str, code: str) -> re.Match[str]:
    found = re.search(_pattern(function), code, re.MULTILINE)
    if found is None:
        raise ValueError(f"the prompt does not define {function!r}")
    return found
