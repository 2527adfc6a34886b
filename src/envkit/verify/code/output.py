"""Whether what a program printed is what was expected: exactly, then by stripped lines, then token by token.

Everything is linear in the text, and no number in it is read at more than a float's cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Literal

Match = Literal["exact", "lines", "tokens", "different"]

TOLERANCE = 1e-6
"""Absolute or relative, for tokens where the expected one is written as a decimal fraction or with an exponent."""


def compare_output(expected: str, got: bytes, *, tokens: bool = True) -> Match:
    """The first rung of the ladder on which the two are equal. `tokens=False` leaves out the last."""
    wanted = expected.encode("utf-8", "surrogatepass")
    if wanted == got:
        return "exact"
    if _same_lines(wanted.rstrip(), got.rstrip()):
        return "lines"
    if tokens and all(a is not None and b is not None and _same_token(a[0], b[0]) for a, b in _tokens(wanted, got)):
        return "tokens"
    return "different"


def _same_lines(expected: bytes, got: bytes) -> bool:
    """Whether the lines are the same, but for white space at their ends."""
    if expected.count(b"\n") != got.count(b"\n"):
        return False
    pairs = zip(expected.split(b"\n"), got.split(b"\n"), strict=True)
    return all(a.rstrip() == b.rstrip() for a, b in pairs)


def _tokens(expected: bytes, got: bytes) -> Iterator[tuple[re.Match[bytes] | None, re.Match[bytes] | None]]:
    """Pairs of what stands between white space, each found when it is asked for: all together take much memory."""
    return zip_longest(_TOKEN.finditer(expected), _TOKEN.finditer(got))


_TOKEN = re.compile(rb"\S+")


def _same_token(expected: bytes, got: bytes) -> bool:
    if expected == got:
        return True
    if (whole := _integer(expected)) is not None:
        return whole == _integer(got)
    first, second = _decimal(expected), _decimal(got)
    if first is None or second is None:
        return False
    return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _integer(token: bytes) -> tuple[bool, bytes] | None:
    """Sign and digits of an integer, as text: its value is never worked out. None where it is none."""
    digits = token[1:] if token[:1] in (b"+", b"-") else token
    if not digits.isdigit():
        return None
    digits = digits.lstrip(b"0")
    return (token[:1] == b"-" and bool(digits), digits)


_NUMERIC = frozenset(b"+-.0123456789eE")


def _decimal(token: bytes) -> float | None:
    """A finite number as a float; None for all else, "nan" and "inf" and "1_0" among it."""
    if len(token) > 400 or not _NUMERIC.issuperset(token):
        return None
    try:
        value = float(token)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
