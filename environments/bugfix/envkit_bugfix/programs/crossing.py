"""What crosses between the hidden tests and the package, each in a box of its own.

{"value": tree}           a plain value, by its exact type, as the codec has it
{"written": [kind, text]} a Decimal, a Fraction, a date, a datetime or a time
{"list": [...]}           or "tuple": some of what it holds is none of these
{"object": number}        anything else: it stays in the package's box, which knows it by this number
{"builtin": name}         a class of exceptions of Python's own
{"object": number, "name": name, "bases": [...]}   one of the package's
"""

from __future__ import annotations

import datetime
import decimal
import fractions
from collections.abc import Callable
from typing import Any

from envkit.verify.code.programs.codec import pack, to_text

WRITTEN: Any = {
    "Decimal": (decimal.Decimal, str, decimal.Decimal),
    "Fraction": (fractions.Fraction, str, fractions.Fraction),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
}
"""Kind, how it is written, and how it is read."""


def crossed(value: Any, mention: Callable[[Any], Any]) -> Any:
    """A value as it crosses; `mention` says of an object by what it is known."""
    tree = pack(value)
    if '{"o":' not in to_text(tree):  # what a string holds is written with a backslash there
        return {"value": tree}
    kind = type(value)
    for name, (own, write, _) in WRITTEN.items():
        if kind is own:
            return {"written": [name, write(value)]}
    if kind is list or kind is tuple:
        return {kind.__name__: [crossed(item, mention) for item in value]}
    return mention(value)
