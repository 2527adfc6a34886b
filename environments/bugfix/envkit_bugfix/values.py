"""Equality that the values compared have no say in. Runs beside the hidden tests, with the standard library alone."""

from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any

EXACT = (type(None), Decimal, Fraction, date, datetime, time, timedelta)


def same(left: Any, right: Any) -> bool:
    """Whether both are the same plain value: what a subclass adds to one is not asked."""
    return bool(_plain(left) == _plain(right))


def _plain(value: Any) -> Any:
    """The value rebuilt of Python's own types; TypeError for what cannot be."""
    kind = type(value)
    if kind in EXACT or kind is bool or (issubclass(kind, PurePath) and kind.__module__.startswith("pathlib")):
        return value
    for base, own in _OWN.items():
        if issubclass(kind, base):
            return own(value)
    if is_dataclass(value):
        return kind.__qualname__, [_plain(object.__getattribute__(value, field.name)) for field in fields(value)]
    raise TypeError(f"a {kind.__qualname__} is no plain value")


_OWN = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes.__add__(value, b""),
    bytearray: lambda value: bytes(bytearray.__add__(value, b"")),
    list: lambda value: [_plain(item) for item in list.__iter__(value)],
    tuple: lambda value: tuple(_plain(item) for item in tuple.__iter__(value)),
    set: lambda value: {_plain(item) for item in set.__iter__(value)},
    frozenset: lambda value: {_plain(item) for item in frozenset.__iter__(value)},
    dict: lambda value: {_plain(key): _plain(item) for key, item in dict.items(value)},
}
