"""Whether what a program printed is what was expected: exactly, then by stripped lines, then token by token.

Everything is linear in the text, and no number in it is read at more than a float's cost.
"""

from __future__ import annotations

import math
from typing import Literal

Match = Literal["exact", "lines", "tokens", "different"]

TOLERANCE = 1e-6
"""Absolute or relative, for tokens where the expected one is written as a decimal fraction or with an exponent."""


def compare_output(expected: str, got: bytes, *, tokens: bool = True) -> Match:
    """The first rung of the ladder on which the two are equal. `tokens=False` leaves out the last."""
    wanted = expected.encode("utf-8", "surrogatepass")
    if wanted == got:
        return "exact"
    first, second = _stripped(wanted), _stripped(got)
    if first == second:
        return "lines"
    if tokens and _same_tokens(first, second):
        return "tokens"
    return "different"


def _stripped(data: bytes) -> list[bytes]:
    """The lines without white space at their ends, and without empty lines at the end of all."""
    lines = [line.rstrip() for line in data.replace(b"\r\n", b"\n").split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_tokens(expected: list[bytes], got: list[bytes]) -> bool:
    wanted, given = b" ".join(expected).split(), b" ".join(got).split()
    return len(wanted) == len(given) and all(_same_token(a, b) for a, b in zip(wanted, given, strict=True))


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
