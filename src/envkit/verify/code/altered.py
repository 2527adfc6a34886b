"""Test files whose tests must fail: one assertion of each is wrong, and nothing else tells them from the real ones.

`assert f(2) == 4` may become `assert f(2) == 5`. Whoever has not the right answer cannot see which of the two is real.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Set

_RANDOM = random.SystemRandom()


def altered(files: Mapping[str, bytes], passed: Set[str]) -> tuple[dict[str, bytes], set[str]]:
    """(the files with an assertion of each of these tests made wrong, where one can be; which tests these are).

    Tests are named as "file::test" and "file::Class::test". Where none of them has an assertion that can be made wrong,
    one more is added.
    """
    made: dict[str, bytes] = {}
    ids: set[str] = set()
    for path, source in files.items():
        ours = {test.removeprefix(f"{path}::") for test in passed if test.startswith(f"{path}::")}
        made[path], names = _altered(source, ours)
        ids |= {f"{path}::{name}" for name in names}
    if not ids:
        path = _RANDOM.choice(list(files))
        name = _RANDOM.choice(re.findall(rb"def (test\w*)", files[path]) or [b"test"]) + _RANDOM.choice(_ENDS)
        made[path] += b"\n\ndef " + name + b"():\n    assert [1, 2] == [2]\n"
        ids.add(f"{path}::{name.decode()}")
    return made, ids


_ENDS = (b"_again", b"_more", b"_once", b"_too", b"_2", b"_b", b"s", b"_only", b"_both", b"_all")


def _altered(source: bytes, wanted: Set[str]) -> tuple[bytes, set[str]]:
    """The file with one assertion of each of these tests made wrong; of which tests it is."""
    try:
        if "\r" in source.decode("utf-8").replace("\r\n", ""):
            return source, set()  # its lines are not those that are counted here
        tests = dict(_tests(ast.parse(source).body))
    except (ValueError, SyntaxError):
        return source, set()
    edits: list[tuple[int, int, bytes]] = []
    names: set[str] = set()
    starts = _line_starts(source)
    for name in sorted(wanted & tests.keys()):
        if assertions := _certain(tests[name]):
            where, text = _wrong(_RANDOM.choice(assertions).test, source, starts)
            edits.append((*_span(where, starts), text))
            names.add(name)
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text + source[end:]
    return source, names


def _tests(body: Iterable[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Each test by its name in ids. Of two with one name the last counts, as in Python."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(node.body, f"{prefix}{node.name}::")


def _certain(test: ast.FunctionDef) -> list[ast.Assert]:
    """The assertions that a test which passes has surely come to."""
    certain: list[ast.Assert] = []
    for statement in test.body:
        if isinstance(statement, ast.Assert):
            certain.append(statement)
        if any(isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) for node in _own(statement)):
            break
    return certain


def _own(statement: ast.AST) -> Iterator[ast.AST]:
    """The statement's nodes, without those of functions that are defined in it."""
    yield statement
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(statement):
            yield from _own(child)


def _wrong(test: ast.expr, source: bytes, starts: list[int]) -> tuple[ast.expr, bytes]:
    """(what is to be replaced in an assertion that holds, by what), so that it holds no longer: a value that something
    is compared with, else the whole, by its opposite."""
    start, end = _span(test, starts)
    text = source[start:end]
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]) if b"approx" not in text:
            for due, other in ((right, left), (left, right)):
                if (values := _values(due)) and not _is_literal(other):
                    value = _RANDOM.choice(values)
                    return value, repr(_another(value.value)).encode()
        case _:
            pass
    return test, b"not (" + text + b")"


def _values(literal: ast.expr) -> list[ast.Constant]:
    """The numbers and texts in a literal; empty for any other expression."""
    if not _is_literal(literal):
        return []
    nodes = (node for node in ast.walk(literal) if isinstance(node, ast.Constant))
    return [node for node in nodes if isinstance(node.value, bool | int | float | str | bytes)]


def _is_literal(expression: ast.expr) -> bool:
    try:
        ast.literal_eval(expression)
    except (ValueError, TypeError, SyntaxError):
        return False
    return True


def _another(value: object) -> object:
    """A value of the same type that looks as likely."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + _RANDOM.choice((1, 2)) if value - value == 0 else 0.0
        case str():
            return value + (value[-1:] or "a")
        case bytes():
            return value + (value[-1:] or b"a")
        case _:
            raise TypeError(f"no literal: {value!r}")


def _line_starts(source: bytes) -> list[int]:
    starts = [0]
    for line in source.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _span(node: ast.expr, starts: list[int]) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
