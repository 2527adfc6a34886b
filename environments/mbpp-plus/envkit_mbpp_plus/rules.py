"""When a value is right, by the rules of EvalPlus v0.3: equality, closeness of floats, and what single tasks allow.

Values come from boxes as plain ones, so that `==` between them runs no code of the candidate's. They may still be
endless, as a range is, or chosen so as to collide: sets are made of the reference's values alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, cast

from .programs import LONG

RELATIVE = 1e-7
"""Relative difference that floats may have."""
ABSOLUTE = 1e-6
"""Absolute difference that floats may have in a task that names none."""

SETS = frozenset(
    "similar_elements find_char_long common_in_nested_lists extract_singly larg_nnum intersection_array "
    "find_dissimilar Diff".split()
)
"""Functions whose result counts as a set: the task says nothing of its order."""
FOUND = frozenset(("check_str", "text_match_three", "text_starta_endb"))
"""Functions that may return a match in place of True, and None in place of False."""


def rule(function: str, atol: float) -> Callable[[object, object], bool]:
    """The comparison of expected and returned value for this function. What was expected is a pair: the reference's
    value and the call's arguments, which two tasks' alternative readings need."""

    def right(expected: object, got: object) -> bool:
        value, arguments = cast(tuple[object, Sequence[Any]], expected)
        try:
            return _right(function, atol, value, got, arguments)
        except (
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ):  # what the reference's value cannot be held against
            return False

    return right


def _right(function: str, atol: float, value: Any, got: Any, arguments: Sequence[Any]) -> bool:
    if function in SETS:
        return _same_elements(value, got) or _close(value, got, atol)
    if function in FOUND:
        return got == (value is not None and value is not False) if isinstance(got, bool) else _found(value, got)
    return got == value or _allowed(function, got, arguments) or _close(value, got, atol)


def _same_elements(value: Iterable[Any], got: Iterable[Any]) -> bool:
    """`set(got) == set(value)`, for results that are no longer than those that leave the box item by item."""
    due, found = set(value), set[Any]()
    for count, item in enumerate(islice(got, LONG + 1)):
        if count == LONG or item not in due:
            return False
        found.add(item)
    return len(found) == len(due)


def _found(value: Any, got: Any) -> bool:
    return (value is not None and value is not False) == (got is not None)


def _allowed(function: str, got: Any, arguments: Sequence[Any]) -> bool:
    """Other readings of a task that EvalPlus accepts."""
    match function:
        case "are_equivalent":
            return True
        case "sum_div":
            return got == 0
        case "surface_Area":
            base, height = arguments
            return got == round(base * base + 2 * base * math.hypot(base / 2, height))
        case "digit_distance_nums":
            first, second = map(str, arguments)
            width = max(len(first), len(second))
            pairs = zip(first.zfill(width), second.zfill(width), strict=True)
            return got == sum(abs(int(a) - int(b)) for a, b in pairs)
        case _:
            return False


def _close(value: Any, got: Any, atol: float) -> bool:
    """Whether a result of the same type is near enough; without `atol` only floats, and flat rows of them, can be."""
    if atol == 0:
        if not _floats(value):
            return False
        atol = ABSOLUTE
    return type(got) is type(value) and _near(value, got, atol)


def _floats(value: Any) -> bool:
    if isinstance(value, list | tuple):
        items = cast(Sequence[Any], value)
        return bool(items) and all(isinstance(item, float) for item in items)
    return isinstance(value, float)


def _near(value: Any, got: Any, atol: float) -> bool:
    if isinstance(value, list | tuple):
        due, came = cast(Sequence[Any], value), cast(Sequence[Any], got)
        return (
            isinstance(got, list | tuple)
            and len(due) == len(came)
            and all(_near(a, b, atol) for a, b in zip(due, came, strict=True))
        )
    return got == value or abs(got - value) <= atol + RELATIVE * abs(value)
