"""JSON with every number as it is: orjson, but for what it refuses or rounds, which Python itself reads and writes."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import orjson

_BEYOND_ORJSON = re.compile(rb"NaN|Infinity|[0-9]{19}")
"""What a text may have that only Python's own reader reads right: no numbers, and integers beyond 64 bits."""


def loads(text: bytes) -> Any:
    """The value; ValueError where it is no JSON, RecursionError where it is too deep."""
    if _BEYOND_ORJSON.search(text) is None:
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
