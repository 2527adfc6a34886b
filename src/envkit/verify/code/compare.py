"""Whether a returned value is the expected one: each function is a `Compare` of `judge_calls`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

Compare = Callable[[object, object], bool]
"""Takes what was expected and what came back. What came back is built of plain types and `Opaque`, never a subclass."""


def exact(expected: object, got: object) -> bool:
    """Equal in value and in type at every level: True is not 1, 1.0 is not 1, a tuple is no list. NaN equals NaN only
    where it is expected."""
    if type(expected) is not type(got):
        return False
    match expected:
        case list() | tuple() | deque():
            return _pairwise(cast(Sequence[Any], expected), cast(Sequence[Any], got), exact)
        case dict():
            return _same_dict(cast(Mapping[Any, Any], expected), cast(Mapping[Any, Any], got), exact)
        case set() | frozenset():
            mine, other = cast(set[Any], expected), cast(set[Any], got)
            return len(mine) == len(other) and set(map(_typed, mine)) == set(map(_typed, other))
        case float():
            return expected == got or (expected != expected and got != got)
        case _:
            return expected == got


def as_json(expected: object, got: object) -> bool:
    """Equal where JSON cannot tell the two apart, as LiveCodeBench needs: a tuple is a list, 2.0 is 2; but True is
    not 1."""
    return _loosely(expected, got, lambda a, b: a == b or (a != a and b != b))


def unordered(expected: object, got: object) -> bool:
    """Sequences or sets of the same elements in any order, each as often; all else, elements too, as `as_json`."""
    match expected, got:
        case (list() | tuple() | set() | frozenset(), list() | tuple() | set() | frozenset()):
            mine, other = cast(Sequence[Any], expected), cast(Sequence[Any], got)
            return len(mine) == len(other) and sorted(map(_text, mine)) == sorted(map(_text, other))
        case _:
            return as_json(expected, got)


def _text(value: Any) -> str:
    """One text for all values that are equal by `as_json`: sorted, where hashes could be made to collide."""
    match value:
        case bool():
            return str(value)
        case float():
            return hex(int(value)) if value.is_integer() else repr(value)
        case int():
            return hex(value)
        case list() | tuple():
            return f"[{','.join(map(_text, cast(Sequence[Any], value)))}]"
        case deque():
            return f"deque[{','.join(map(_text, cast(Sequence[Any], value)))}]"
        case range():
            return f"range[{','.join(map(_text, (value.start, value.stop, value.step)))}]"
        case set() | frozenset():
            return f"{{{','.join(sorted(map(_text, cast(set[Any], value))))}}}"
        case dict():
            pairs = cast(Mapping[Any, Any], value).items()
            return f"{{{','.join(sorted(f'{_text(key)}:{_text(item)}' for key, item in pairs))}}}"
        case _:
            return repr(value)


def within(absolute: float = 1e-6, relative: float = 1e-6) -> Compare:
    """As `as_json`, with numbers equal when they differ by no more than this, unless both are whole by type."""

    def close(expected: float, got: float) -> bool:
        if isinstance(expected, int) and isinstance(got, int):
            return expected == got
        try:
            return math.isclose(expected, got, abs_tol=absolute, rel_tol=relative) or (
                expected != expected and got != got
            )
        except OverflowError:
            return False

    return lambda expected, got: _loosely(expected, got, close)


def _loosely(expected: object, got: object, same: Callable[[float, float], bool]) -> bool:
    def alike(first: object, second: object) -> bool:
        return _loosely(first, second, same)

    match expected, got:
        case (bool(), _) | (_, bool()):
            return expected is got
        case (int() | float(), int() | float()):
            return same(expected, got)
        case (list() | tuple(), list() | tuple()):
            return _pairwise(cast(Sequence[Any], expected), cast(Sequence[Any], got), alike)
        case (dict(), dict()):
            return _same_dict(cast(Mapping[Any, Any], expected), cast(Mapping[Any, Any], got), alike)
        case _:
            return exact(expected, got)


def _pairwise(expected: Sequence[Any], got: Sequence[Any], same: Compare) -> bool:
    return len(expected) == len(got) and all(same(a, b) for a, b in zip(expected, got, strict=True))


def _same_dict(expected: Mapping[Any, Any], got: Mapping[Any, Any], same: Compare) -> bool:
    if len(expected) != len(got):
        return False
    mine = {_typed(key): value for key, value in expected.items()}
    other = {_typed(key): value for key, value in got.items()}
    return mine.keys() == other.keys() and all(same(value, other[key]) for key, value in mine.items())


def _typed(value: Any) -> Any:
    """A stand-in for a hashable value that equals another's only where the types are equal too."""
    match value:
        case tuple():
            return (tuple, tuple(map(_typed, cast(tuple[Any, ...], value))))
        case frozenset():
            return (frozenset, frozenset(map(_typed, cast(frozenset[Any], value))))
        case float() if value != value:
            return (float, "nan")
        case _:
            return (cast(type[Any], type(value)), value)
