"""JSON with every number as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envkit import exact

SCALARS = st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=8)


@given(VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    line = exact.dumps(value)
    assert b"\n" not in line
    read = exact.loads(line)
    assert read == value
    assert json.dumps(read) == json.dumps(value)  # 1.0 is no 1


def test_what_orjson_would_refuse_or_round() -> None:
    assert exact.loads(b'{"n": 123456789012345678901234567890}') == {"n": 123456789012345678901234567890}
    assert exact.loads(b"[Infinity]") == [float("inf")]
    assert exact.loads(exact.dumps(["\ud800"])) == ["\ud800"]
    assert exact.loads(exact.dumps([float("-inf"), None])) == [float("-inf"), None]


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b"{'a': 1}", b"[12345678901234567890,]"])
def test_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - two readers, two wordings
        exact.loads(text)
