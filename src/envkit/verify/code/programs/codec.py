"""Values as JSON trees by exact type, both ways: used on the host and, as text, in the boxes.

    None, bool, int, finite float, str, list   as JSON has them; a float never looks like an int
    {"i": hex} large int   {"f": "nan" | "inf" | "-inf"}   {"c": [re, im]} complex   {"b": hex} bytes
    {"a": hex} bytearray   {"t": [...]} tuple   {"s": [...]} set   {"z": [...]} frozenset   {"d": [[k, v], ...]} dict
    {"k": [name, [[k, v], ...]]} Counter, OrderedDict, defaultdict   {"q": [...]} deque
    {"r": [start, stop, step]} range   {"o": text} an object that is none of these, or is too large: equal to nothing

A subclass is an object like any other. Nothing is pickled or evaluated, and no tree is deeper or larger than the caps.
"""

from __future__ import annotations

import sys
import time
from typing import Any

DEPTH = 100
NODES = 900000
TEXT = 4 << 20
"""Levels, values and characters of one tree; they bound what the host holds while it reads one. A value that holds
others counts as three."""
MAPPINGS = ("Counter", "OrderedDict", "defaultdict")
BUILDING = 0.3
"""Seconds of processor time that the sets and dicts of one tree may take to build, which is a tenth of a second for
the largest honest ones: elements whose hashes are chosen to collide take hours."""
STEP = 64
"""Elements between two looks at the time."""


class Opaque:
    """Stands for an object that cannot cross; `name` says what it was. It equals nothing but itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "<" + self.name + ">"


class _TooLarge(Exception):
    pass


def kind_of(value: object) -> Any:
    """The exact type, which nothing that is known of the value narrows."""
    return type(value)


def pack(value: Any) -> Any:
    """The tree of a value; where it is too deep or too large, the tree of an object."""
    try:
        return _pack(value, 0, [NODES, TEXT])
    except (_TooLarge, RecursionError, MemoryError):
        return {"o": type(value).__name__ + ", too large or too deep"}


def _pack(value: Any, depth: int, left: list[int]) -> Any:
    kind = kind_of(value)
    left[0] -= 1
    if left[0] < 0 or depth > DEPTH:
        raise _TooLarge
    if value is None or kind is bool:
        return value
    if kind is int:
        if -(2**53) <= value <= 2**53:
            return value
        _spend(left, value.bit_length() // 4)
        return {"i": hex(value)}
    if kind is float:
        return value if value - value == 0 else {"f": repr(value)}
    if kind is str:
        _spend(left, len(value))
        return value
    left[0] -= 2
    if kind is list:
        return [_pack(item, depth + 1, left) for item in value]
    if kind is dict:
        left[0] -= 3 * len(value)
        return {"d": [[_pack(k, depth + 1, left), _pack(v, depth + 1, left)] for k, v in value.items()]}
    tag = {tuple: "t", set: "s", frozenset: "z"}.get(kind)
    if tag is not None:
        return {tag: [_pack(item, depth + 1, left) for item in value]}
    if kind is bytes or kind is bytearray:
        _spend(left, 2 * len(value))
        return {"b" if kind is bytes else "a": value.hex()}
    if kind is complex:
        return {"c": [_pack(value.real, depth + 1, left), _pack(value.imag, depth + 1, left)]}
    if kind is range:
        return {"r": [_pack(part, depth + 1, left) for part in (value.start, value.stop, value.step)]}
    if kind.__module__ == "collections" and kind.__name__ in MAPPINGS:
        return {"k": [kind.__name__, _pack(dict(value), depth, left)["d"]]}
    if kind.__module__ == "collections" and kind.__name__ == "deque":
        return {"q": [_pack(item, depth + 1, left) for item in value]}
    return {"o": str(kind.__name__)[:100]}


def _spend(left: list[int], characters: int) -> None:
    left[1] -= characters
    if left[1] < 0:
        raise _TooLarge


def unpack(tree: Any) -> Any:
    """The value of a tree, built of plain types alone. ValueError for anything that `pack` does not make."""
    return _unpack(tree, 0, [BUILDING])


def _unpack(tree: Any, depth: int, left: list[float]) -> Any:
    kind = kind_of(tree)
    if tree is None or kind is bool or kind is int or kind is str:
        return tree
    if depth > DEPTH:
        raise ValueError("too deep")
    if kind is float and tree - tree == 0:
        return tree
    if kind is list:
        return [_unpack(item, depth + 1, left) for item in tree]
    if kind is not dict or len(tree) != 1:
        raise ValueError("no value")
    tag, inner = next(iter(tree.items()))
    if kind_of(inner) is str:
        return _from_string(tag, inner)
    if kind_of(inner) is not list:
        raise ValueError("no value")
    if tag == "d":
        return _dict(inner, depth, left)
    if tag == "k" and len(inner) == 2 and inner[0] in MAPPINGS and kind_of(inner[1]) is list:
        return _mapping(inner[0], _dict(inner[1], depth, left))
    items = [_unpack(item, depth + 1, left) for item in inner]
    if tag == "t":
        return tuple(items)
    if tag == "s":
        return _built(set(), items, left)
    if tag == "z":
        return frozenset(_built(set(), items, left))
    if tag == "c" and len(items) == 2 and all(kind_of(item) is float for item in items):
        return complex(*items)
    if tag == "r" and len(items) == 3 and all(kind_of(item) is int for item in items):
        return range(*items)
    if tag == "q":
        return __import__("collections").deque(items)
    raise ValueError("no value")


def _from_string(tag: str, text: str) -> Any:
    if tag == "o":
        return Opaque(text[:200])
    if tag == "f" and text in ("nan", "inf", "-inf"):
        return float(text)
    if tag == "i":
        value = int(text, 16)
        if hex(value) == text:
            return value
    if tag == "b":
        return bytes.fromhex(text)
    if tag == "a":
        return bytearray.fromhex(text)
    raise ValueError("no value")


def _dict(pairs: list[Any], depth: int, left: list[float]) -> dict[Any, Any]:
    if not all(kind_of(pair) is list and len(pair) == 2 for pair in pairs):
        raise ValueError("no value")
    return _built({}, [(_unpack(k, depth + 1, left), _unpack(v, depth + 1, left)) for k, v in pairs], left)


def _mapping(name: str, items: dict[Any, Any]) -> Any:
    kind = getattr(__import__("collections"), name)
    return kind(None, items) if name == "defaultdict" else kind(items)


def _built(made: Any, items: list[Any], left: list[float]) -> Any:
    """The set or dict with these elements or pairs, which must be hashable and distinct, and not chosen to collide."""
    started = time.thread_time()
    try:
        for first in range(0, len(items), STEP):
            made.update(items[first : first + STEP])
            if time.thread_time() - started > left[0]:
                raise ValueError("elements whose hashes collide")
    except TypeError:
        raise ValueError("an element cannot be hashed") from None
    left[0] -= time.thread_time() - started
    if len(made) != len(items):
        raise ValueError("an element is there twice")
    return made


def _readers() -> tuple[Any, Any]:
    """`loads` and `dumps`, where possible without importing `json`, which takes as long as starting Python does."""
    if "json" not in sys.modules:
        try:
            core: Any = __import__("_json")
            scan: Any = core.make_scanner(_Plain)
            quoted = core.encode_basestring_ascii
            encode: Any = core.make_encoder(None, None, quoted, None, ":", ",", False, False, False)
            if scan("".join(encode([{"a": 1.5}], 0)), 0)[0] == [{"a": 1.5}]:
                return _Light(scan, encode).loads, _Light(scan, encode).dumps
        except (ImportError, AttributeError, TypeError, ValueError):  # not this CPython: its own module will do
            pass
    import json

    return json.loads, json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class _Light:
    def __init__(self, scan: Any, encode: Any) -> None:
        self.scan = scan
        self.encode = encode

    def loads(self, text: str) -> Any:
        return self.scan(text, 0)[0]

    def dumps(self, value: Any) -> str:
        return "".join(self.encode(value, 0))


class _Plain:
    """How the scanner is to read: as `json.loads` does."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


from_text, to_text = _readers()
"""The value of a line that the host or a program of ours wrote, and one line of ASCII for a value."""
