from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envkit.verify.code import as_json, exact, unordered, within
from envkit.verify.code.calls import shown
from envkit.verify.code.channel import frame, is_tree
from envkit.verify.code.output import compare_output
from envkit.verify.code.programs.codec import DEPTH, Opaque, pack, to_text, unpack

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20) | st.complex_numbers()
)
keys = st.integers() | st.text(max_size=5) | st.booleans() | st.tuples(st.integers(), st.text(max_size=3))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(keys, inner, max_size=5)
        | st.sets(keys, max_size=5)
        | st.frozensets(keys, max_size=5)
    ),
    max_leaves=20,
)


COLLECTIONS = [Counter("aab"), OrderedDict(b=1, a=2), defaultdict(list, a=[1]), deque([1, (2,)])]


def crossed(value: Any) -> Any:
    tree = json.loads(to_text(pack(value)))
    assert is_tree(tree)
    return unpack(tree)


@given(values)
def test_values_cross_exactly(value: Any) -> None:
    back = crossed(value)
    assert type(back) is type(value)
    assert complex in map(type, (value,)) or exact(value, back) or "nan" in repr(value)


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**200), range(1, 9, 3), bytearray(b"x"), "\ud800", 1e300, (), {}, -0.0, *COLLECTIONS]
)
def test_rare_values_cross_exactly(value: Any) -> None:
    assert exact(value, crossed(value))


def test_a_subclass_is_an_object_that_equals_nothing() -> None:
    class Equal(list[int]):
        def __eq__(self, other: object) -> bool:
            return True

    class One(int):
        pass

    for value in (Equal(), One(1), object(), len, Exception()):
        assert isinstance(crossed(value), Opaque)
        assert not exact([], crossed(value))
        assert not exact(1, crossed(value))


def test_what_is_too_large_or_turns_in_circles_does_not_cross() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]
    for value in (circle, deep, shared, "x" * (5 << 20), 1 << (40 << 20), [0] * 2_000_000):
        assert isinstance(crossed(value), Opaque)
    while deep:  # or its end would be one long recursion
        deep = deep.pop()


def test_the_reader_takes_nothing_else() -> None:
    bad: list[Any] = [
        {},
        {"t": 1},
        {"x": []},
        {"t": [], "s": []},
        {"s": [[]]},
        {"s": [1, 1]},
        {"i": "12"},
        {"i": "0x_1"},
        {"f": "1"},
        {"d": [[1]]},
        {"c": [1, 2]},
        {"b": "zz"},
        {"r": [1, 2]},
        {"r": [1, 2, 0]},
        float("inf"),
    ]
    for tree in bad:
        with pytest.raises(ValueError):  # noqa: PT011 - the codec's only error
            unpack(tree)
    nested: list[Any] = []
    for _ in range(DEPTH + 1):
        nested = [nested]
    with pytest.raises(ValueError, match="too deep"):
        unpack(nested)


PRIME = (1 << 61) - 1
COLLIDE = [{"i": hex(n * PRIME)} for n in range(1, 60_001)]


@pytest.mark.parametrize(
    "tree",
    [
        {"s": COLLIDE},
        {"z": COLLIDE},
        {"d": [[key, 0] for key in COLLIDE]},
        {"k": ["Counter", [[key, 0] for key in COLLIDE]]},
        [{"s": COLLIDE[n : n + 3000]} for n in range(0, 57_000, 500)],
    ],
    ids=["set", "frozenset", "dict", "Counter", "many sets"],
)
def test_elements_made_to_collide_are_refused_in_good_time(tree: Any) -> None:
    started = time.thread_time()
    with pytest.raises(ValueError, match="collide"):
        unpack(tree)
    assert time.thread_time() - started < 3


def test_large_sets_that_are_honest_are_read() -> None:
    for value in (
        set(range(200_000)),
        {n * 12345678901: n for n in range(100_000)},
        {(n, str(n)) for n in range(9999)},
    ):
        assert crossed(value) == value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        1.5,
        "it's",
        b"x",
        [],
        [1, [2]],
        (),
        (1,),
        (1, 2),
        set(),
        {1},
        {},
        {"a": [1]},
        range(3),
        1j,
        frozenset(),
    ],
)
def test_a_value_is_shown_as_python_does(value: Any) -> None:
    assert shown(value) in (repr(value), "range(0, 3, 1)")  # which is `range(0, 3)` in full


def test_a_large_value_is_shown_at_no_cost() -> None:
    huge = 10**6000
    many = list(range(100_000))
    assert shown([huge, deque([huge])]) == "[an integer of 19932 bits, deque(an integer of 19932 bits)]"
    started = time.thread_time()
    for value in (
        [many] * 1000,
        {"a": many},
        (range(10**6000),),
        "\ud800" * (4 << 20),
        [Counter(many)],
        Opaque("x" * 200),
    ):
        assert len(shown(value)) <= 301
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize(
    "line",
    [
        b"nonce [1]",
        b"nonce {",
        b"nonce " + b"[" * 500_000,
        b'nonce {"a": NaN}',
        b'nonce {"a": ' + b"9" * 5000 + b"}",
        b'other {"a": 1}',
        b"nonce " + b'{"a":[' + b"[]," * 2_000_000 + b"[]]}",
    ],
)
def test_hostile_lines_are_no_messages(line: bytes) -> None:
    assert frame(line, "nonce") is None


def test_a_line_of_the_run_is_a_message() -> None:
    assert frame(b'nonce {"a": [1]}', "nonce") == {"a": [1]}


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, True),
        (1, 1.0),
        (0, False),
        ([1], (1,)),
        ({1}, {True}),
        ({1}, frozenset({1})),
        ({1: 2}, {True: 2}),
        ({1: 2}, {1: 2.0}),
        ([1, 2], [1]),
        ({(1, 2)}, {(1, 2.0)}),
        (1, float("nan")),
        ("1", 1),
        (None, False),
        (b"a", "a"),
    ],
)
def test_exact_tells_types_apart(expected: Any, got: Any) -> None:
    assert not exact(expected, got)
    assert exact(expected, expected)


def test_json_takes_a_tuple_for_a_list_but_no_bool_for_a_number() -> None:
    assert as_json([1, [2.0, "a"]], (1, (2, "a")))
    assert as_json({"a": [1]}, {"a": (1.0,)})
    assert not as_json(1, True)
    assert not as_json([True], [1])
    assert not as_json([1], [1, 2])
    assert not as_json(0.3, 0.1 + 0.2)


def test_within_is_for_numbers() -> None:
    assert within(1e-6)(0.3, 0.1 + 0.2)
    assert within(0.1)([1.0, (2,)], (1.05, [2.01]))
    assert not within(0.1)(1.0, 1.2)
    assert not within(10)(1, 2)
    assert not within(0.1)(1.0, float("nan"))
    assert not within(0.1)(1.5, 10**400)
    assert not within(2)(1.0, True)


@pytest.mark.parametrize(
    ("expected", "got", "how"),
    [
        ("1 2\n", "1 2\n", "exact"),
        ("1 2\n", "1 2  \r\n\n", "lines"),
        ("1\n2\n", "1 2", "tokens"),
        ("0.5", "0.50000001", "tokens"),
        ("1e-3", ".001", "tokens"),
        ("7", "+07", "tokens"),
        ("-0", "0", "tokens"),
        ("7", "7.0", "different"),
        ("7", "8", "different"),
        ("1.0", "nan", "different"),
        ("nan", "NaN", "different"),
        ("1e9", "inf", "different"),
        ("1.5", "1_5e-1", "different"),
        ("1.5", "\u0661.5", "different"),
        ("yes", "Yes", "different"),
        ("1 2", "1 2 3", "different"),
        ("", "x", "different"),
        ("1000000000000000000001", "1000000000000000000002", "different"),
    ],
)
def test_output_ladder(expected: str, got: str, how: str) -> None:
    assert compare_output(expected, got.encode()) == how


def test_output_of_any_bytes_is_compared() -> None:
    assert compare_output("1", b"\xff\x00") == "different"
    assert compare_output("9" * 100_000, b"9" * 99_999 + b"8") == "different"
    assert compare_output("1.5", b"1" * 500_000 + b".5") == "different"


def test_unordered_counts_elements() -> None:
    assert unordered((1, 2, 2), [2, 1, 2])
    assert unordered({"a", "b"}, ("b", "a"))
    assert not unordered([1, 2, 2], [1, 1, 2])
    assert not unordered([1], [True])
    assert not unordered([1], [deque([10**5000])])
    assert unordered([deque([1, 2.0])], (deque([1.0, 2]),))
    assert unordered("ab", "ab")
    assert not unordered("ab", "ba")
