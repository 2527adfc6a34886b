"""The hidden tests of a task as they are run: with values compared by what they are.

The tests run in the process of the code that they judge, where a value could say of itself that it equals whatever it
is compared with.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence

from . import values

FILE = "hidden/test_hidden.py"
VALUES = "hidden/values_of_tests.py"


def hidden(source: bytes) -> tuple[dict[str, bytes], list[str]]:
    """(files, ids of the tests in them)."""
    module = _Strict().visit(ast.parse(source))
    names = [node.name for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    text = f"from values_of_tests import same as {_SAME}\n{ast.unparse(module)}\n"
    files = {FILE: text.encode(), VALUES: inspect.getsource(values).encode()}
    return files, [f"{FILE}::{name}" for name in names]


_SAME = "same_values"


class _Strict(ast.NodeTransformer):
    """`a == b` becomes `same_values(a, b)`."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        operands: Sequence[ast.expr] = [node.left, *node.comparators]
        if any(isinstance(op, ast.NotEq) for op in node.ops):
            raise ValueError("hidden tests compare with == alone")
        if not any(isinstance(op, ast.Eq) for op in node.ops):
            return node
        if len(operands) > 2:
            raise ValueError("hidden tests compare two values at a time")
        return ast.Call(ast.Name(_SAME, ast.Load()), list(operands), [])
