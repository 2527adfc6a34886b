"""The hidden tests of a task as they are run: with values compared by what they are, and with one test that must fail.

The tests run in the process of the code that they judge. Two ways to be paid for nothing are closed here: a value that
says of itself that it equals whatever it is compared with, and a pytest that was told to report every test as passed.
"""

from __future__ import annotations

import ast
import inspect
import secrets
from collections.abc import Sequence

from envkit import Score
from envkit.verify.code.verdict import Verdict

from . import values

FILE = "hidden/test_hidden.py"
VALUES = "hidden/values_of_tests.py"


def hidden(source: bytes) -> tuple[dict[str, bytes], list[str]]:
    """(files, ids of the tests in them), the control last, under a name that is drawn anew."""
    module = _Strict().visit(ast.parse(source))
    names = [node.name for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    control = f"test_{secrets.token_hex(6)}"
    text = (
        f"from values_of_tests import same as {_SAME}\n{ast.unparse(module)}\n\n"
        f"def {control}():\n    assert {_SAME}({control[5:]!r}, {secrets.token_hex(6)!r})\n"
    )
    files = {FILE: text.encode(), VALUES: inspect.getsource(values).encode()}
    return files, [f"{FILE}::{name}" for name in [*names, control]]


def score(verdict: Verdict) -> Score:
    """1 where every test but the control passed, and the control failed as a test does."""
    *cases, control = verdict.cases
    wrong = None if all(case.passed for case in cases) else verdict.reason
    if wrong is None and verdict.reason != control.reason:
        wrong = verdict.reason or "a test that must fail is reported as passed: how tests are run was changed"
    if wrong is None and ": failed: " not in str(control.reason):
        wrong = f"the test that must fail did not: {control.reason}"
    return Score.of(verdict).model_copy(update={"value": float(wrong is None), "reason": wrong})


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
