"""The arguments of MBPP+ as Python values: its file is JSON, which has no tuples, sets and complex numbers.

Which task takes which type is a fact of the dataset; EvalPlus documents it in `mbpp_deserialize_inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Arguments = list[Any]


def restored(task_id: str, inputs: Sequence[Sequence[Any]]) -> list[Arguments]:
    """Each call's arguments, with the types that this task was written for; those of other tasks as they are."""
    name, _, number = task_id.partition("/")
    restore = _RESTORE.get(int(number)) if name == "Mbpp" and number.isdigit() else None
    return [list(arguments if restore is None else restore(list(arguments))) for arguments in inputs]


def _tuples(values: Sequence[Any]) -> list[Any]:
    return [tuple(value) for value in values]


def _each(arguments: Arguments) -> Arguments:
    """Every argument is a tuple."""
    return _tuples(arguments)


def _lists_of_tuples(arguments: Arguments) -> Arguments:
    return [_tuples(argument) for argument in arguments]


def _tuples_of_tuples(arguments: Arguments) -> Arguments:
    return [tuple(_tuples(argument)) for argument in arguments]


def _first_list_of_tuples(arguments: Arguments) -> Arguments:
    return [_tuples(arguments[0]), *arguments[1:]]


def _first(arguments: Arguments) -> Arguments:
    return [tuple(arguments[0]), *arguments[1:]]


def _second(arguments: Arguments) -> Arguments:
    return [arguments[0], tuple(arguments[1]), *arguments[2:]]


def _list_of_sets(arguments: Arguments) -> Arguments:
    """Empty ones are dicts, as in EvalPlus."""
    return [[set(item) if isinstance(item, list) and item else {} for item in arguments[0]]]


def _tuple_with_tuples(arguments: Arguments) -> Arguments:
    return [tuple(tuple(item) if isinstance(item, list) else item for item in arguments[0])]


def _values(arguments: Arguments) -> Arguments:
    table: Mapping[str, Any] = arguments[0]
    return [{key: tuple(value) for key, value in table.items()}, *arguments[1:]]


def _float_and_complex(arguments: Arguments) -> Arguments:
    return [float(arguments[0]), complex(arguments[1])]


def _complex(arguments: Arguments) -> Arguments:
    return [complex(arguments[0])]


def _deep(arguments: Arguments) -> Arguments:
    return [_deep_tuple(argument) for argument in arguments]


def _deep_tuple(value: Any) -> Any:
    return tuple(_deep_tuple(item) for item in value) if isinstance(value, list) else value


_GROUPS: Mapping[Callable[[Arguments], Arguments], str] = {
    _each: "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
    _lists_of_tuples: "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780",
    _first_list_of_tuples: "75 413 444 753",
    _second: "106 750",
    _list_of_sets: "115",
    _float_and_complex: "124",
    _first: "250 307 405 446 617 720 763 808",
    _tuples_of_tuples: "259 401 445",
    _tuple_with_tuples: "278",
    _values: "722",
    _complex: "252",
    _deep: "580 615 791",
}
_RESTORE = {int(number): restore for restore, numbers in _GROUPS.items() for number in numbers.split()}
