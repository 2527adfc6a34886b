"""JSON with every number as it is: orjson, but for what it refuses or rounds, which Python itself reads and writes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import orjson

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * 19
"""What a number beyond 64 bits has, once every digit is a zero."""


def loads(text: bytes) -> Any:
    """The value; ValueError where it is no JSON, RecursionError where it is too deep."""
    if b"NaN" not in text and b"Infinity" not in text and _LONG not in text.translate(_DIGITS):
        with suppress(orjson.JSONDecodeError):  # half of a surrogate pair, if not worse
            return orjson.loads(text)
    return json.loads(text)


def dumps(value: Any) -> bytes:
    """The value on one line."""
    with suppress(TypeError):  # an integer beyond 64 bits, or half of a surrogate pair
        text = orjson.dumps(value)
        if b"null" not in text:  # which is also what orjson makes of infinity
            return text
    return json.dumps(value).encode()
