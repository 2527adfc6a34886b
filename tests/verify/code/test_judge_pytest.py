from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import Any

import pytest

from envkit.errors import InfraError, UsageError
from envkit.verify.code import Fresh, judge_pytest, repository
from envkit.verify.code.altered import altered

TESTS = {"tests/test_m.py": b"from m import f\ndef test_a(): assert f(1) == 1\ndef test_b(): assert f(2) == 4\n"}
IDS = ["tests/test_m.py::test_a", "tests/test_m.py::test_b"]
RIGHT = b"def f(x): return x * x"


@pytest.fixture
async def with_pytest(fresh: Fresh) -> Fresh:
    async with fresh() as box:
        found = await box.exec(["python3", "-I", "-c", "import pytest"])
    if not found.ok:
        pytest.skip("the boxes' Python has no pytest")
    return fresh


async def test_tests_that_pass(with_pytest: Fresh) -> None:
    for expected in (None, IDS, IDS[:1]):
        verdict = await judge_pytest(with_pytest, {"m.py": RIGHT}, TESTS, expected=expected)
        assert verdict, verdict.reason
    assert "pytest" in (verdict.interpreter or "")


@pytest.mark.parametrize(
    "source",
    [
        b"def f(x): return x",
        b"1 / 0",
        b"import os\nos._exit(0)",
        b"import pytest\npytest.skip('no', allow_module_level=True)",
        b"import pytest\ndef f(x): pytest.skip('no')",
        b"import pytest\ndef f(x): pytest.xfail('no')",
        b"import pytest\npytest.exit('done', 0)",
        b"import sys\nsys.exit(0)",
        b"import sys\ndef f(x): return 1\nfor fd in range(3, 9):\n    try: import os; os.write(fd, b'passed')\n    except OSError: pass",  # noqa: E501
    ],
)  # fmt: skip
async def test_tests_that_do_not_pass(with_pytest: Fresh, source: bytes) -> None:
    assert not await judge_pytest(with_pytest, {"m.py": source}, TESTS)
    assert not await judge_pytest(with_pytest, {"m.py": source}, TESTS, expected=IDS)


PATCHED = b"""
from _pytest.reports import TestReport
made = TestReport.from_item_and_call.__func__
def passing(kind, item, call):
    call.excinfo = None
    return made(kind, item, call)
TestReport.from_item_and_call = classmethod(passing)
"""


SPARING = b"""
import _pytest.python
run = _pytest.python.Function.runtest
def runtest(self):
    try:
        run(self)
    except Exception:
        if len(self.name) == len("test_") + 12:
            raise
_pytest.python.Function.runtest = runtest
"""
EQUAL = b"""
class Equal(int):
    def __eq__(self, other):
        return True
    __hash__ = int.__hash__
def f(x): return Equal()
"""
FORGED = b"""
import gc, os
def f(x):
    for say in gc.get_objects():
        if getattr(say, "__qualname__", "") == "main.<locals>.say":
            for test in ("test_a", "test_b"):
                say({"id": "tests/test_m.py::" + test, "when": "call", "outcome": "passed", "xfail": False, "why": ""})
            say({"end": 0})
            os._exit(0)
"""


@pytest.mark.parametrize(
    "source",
    [b"def f(x): return x" + PATCHED, RIGHT + PATCHED, b"def f(x): return x" + SPARING, EQUAL, FORGED],
    ids=["reports", "reports of right code", "all but a random name", "equal to all", "forged"],
)
async def test_a_pytest_that_was_told_to_pass_everything_is_found_out(with_pytest: Fresh, source: bytes) -> None:
    verdict = await judge_pytest(with_pytest, {"m.py": source}, TESTS, expected=IDS)
    assert not verdict
    assert verdict.reason == "a test that must fail was not reported so: how tests are run was changed"


SHAPES = b"""
import pytest
from m import f

class TestClass:
    def test_method(self):
        assert f(2) == 4, "a message"

@pytest.mark.parametrize("x", [1, -1])
def test_parameters(x):
    assert (
        [f(x)] == [1]
    )

@pytest.fixture
def two():
    yield 2

def test_fixture(two): assert f(two) == 4

def test_no_literal():
    assert f(2) == f(-2)

def test_approx():
    assert f(2.0) == pytest.approx(4)

def test_text():
    caf\xc3\xa9 = "\xc3\xa9"; assert caf\xc3\xa9 * f(1) == "\xc3\xa9"

def test_raises():
    with pytest.raises(TypeError):
        f("x")

def test_may_return():
    if f(1):
        return
    assert f(1) == 2

def test_loop():
    for x in ():
        assert f(x) == 3

def test_empty(): assert [x for x in () if f(x)] == []
"""


@pytest.mark.parametrize(
    "tests", [SHAPES, b"from m import f\ndef test_raises():\n    f(1)\n", SHAPES.replace(b"\n", b"\r\n")]
)
async def test_right_code_passes_tests_of_every_shape(with_pytest: Fresh, tests: bytes) -> None:
    verdict = await judge_pytest(with_pytest, {"m.py": RIGHT}, {"./test_shapes.py": tests})
    assert verdict, verdict.reason


def test_an_altered_test_differs_in_one_value() -> None:
    made, ids = altered(
        {"t.py": SHAPES}, {"t.py::test_parameters", "t.py::test_raises", "t.py::TestClass::test_method"}
    )
    assert ids == {"t.py::test_parameters", "t.py::TestClass::test_method"}
    changed = [(a, b) for a, b in zip(SHAPES.splitlines(), made["t.py"].splitlines(), strict=True) if a != b]
    assert [a for a, _ in changed] == [b'        assert f(2) == 4, "a message"', b"        [f(x)] == [1]"]
    assert all(
        re.fullmatch(rb'        (assert f\(2\) == [56], "a message"|\[f\(x\)\] == \[[23]\])', b) for _, b in changed
    )


async def test_what_is_not_expected_may_fail(with_pytest: Fresh) -> None:
    tests = {"test_m.py": TESTS["tests/test_m.py"] + b"def test_c(missing): assert f(1) == 1\n"}
    assert await judge_pytest(with_pytest, {"m.py": RIGHT}, tests, expected=["test_m.py::test_a", "test_m.py::test_b"])


async def test_the_candidate_configures_nothing_and_replaces_no_test(with_pytest: Fresh) -> None:
    files = {
        "m.py": b"def f(x): return 0",
        "conftest.py": b"def pytest_collection_modifyitems(items): items.clear()",
        "pytest.ini": b"[pytest]\naddopts = --co",
        "tests/conftest.py": b"import os\nos._exit(0)",
        "tests/test_m.py": b"def test_a(): pass\ndef test_b(): pass",
    }
    verdict = await judge_pytest(with_pytest, files, TESTS)
    assert [case.passed for case in verdict.cases] == [False, False]
    assert await judge_pytest(with_pytest, {**files, "m.py": RIGHT}, TESTS)


async def test_a_missing_test_fails(with_pytest: Fresh) -> None:
    verdict = await judge_pytest(with_pytest, {"m.py": RIGHT}, TESTS, expected=[*IDS, "tests/test_m.py::test_c"])
    assert verdict.reason == "tests/test_m.py::test_c: not run"


@pytest.fixture
async def bare(fresh: Fresh) -> Any:
    """Boxes whose Python has no packages."""
    async with fresh() as box:
        kind: Any = type(box)

    class Bare(kind):
        async def exec(self, argv: Any, **options: Any) -> Any:
            return await super().exec([*argv[:1], "-S", *argv[1:]], **options)

    @asynccontextmanager
    async def without_packages():
        async with fresh() as box:
            box.__class__ = Bare
            yield box

    return without_packages


async def test_a_box_without_pytest_is_given_this_machines(bare: Any) -> None:
    verdict = await judge_pytest(bare, {"m.py": RIGHT}, TESTS, expected=IDS)
    assert verdict, verdict.reason
    assert not await judge_pytest(bare, {"m.py": b"def f(x): return x"}, TESTS, expected=IDS)


async def test_without_pytest_there_is_no_verdict(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_pytest_here", bytes)
    with pytest.raises(InfraError, match="Install pytest"):
        await judge_pytest(bare, {"m.py": RIGHT}, TESTS)


async def test_no_tests_are_a_mistake(fresh: Fresh) -> None:
    with pytest.raises(UsageError, match="nothing to judge"):
        await judge_pytest(fresh, {}, {"check.py": b""})
