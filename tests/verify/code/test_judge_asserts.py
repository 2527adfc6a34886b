from __future__ import annotations

import asyncio
import gzip
import json
import shutil

import pytest
from material import material

from envkit.errors import EnvError, UsageError
from envkit.sandbox.base import ExecLimits
from envkit.verify.code import Fresh, Verdict, judge_asserts

SHORT = ExecLimits(wall=2, cpu=2)


async def test_canonical_solutions_of_humaneval_pass(fresh: Fresh) -> None:
    tasks = [
        json.loads(line) for line in gzip.decompress(material("data/HumanEval.jsonl.gz").read_bytes()).splitlines()
    ]
    two = asyncio.Semaphore(2)

    async def judged(task: dict[str, str]) -> Verdict:
        async with two:
            return await judge_asserts(
                fresh,
                task["prompt"] + task["canonical_solution"],
                f"{task['test']}\ncheck(candidate)\n",
                function=task["entry_point"],
                context=f"{task['prompt']}\n    pass\n",
            )

    verdicts = await asyncio.gather(*map(judged, tasks))
    assert len(verdicts) == 164
    assert [task["task_id"] for task, verdict in zip(tasks, verdicts, strict=True) if not verdict] == []


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def f(x): return sorted(x)", "assert candidate([2, 1]) == f((1, 2)) == [1, 2]"),
        ("def f(x): x.append(1); x[0].append(2)", "xs = [[]]\nf(xs)\nassert xs == [[2], 1]"),
        ("def f(d, s, b): d.clear(); s.add(1); b.extend(b'x')", "d, s, b = {1: 2}, set(), bytearray()\nf(d, s, b)\nassert (d, s, b) == ({}, {1}, b'x')"),  # noqa: E501
        ("def f(x): raise ValueError(f'no {x}')", "try: f(1)\nexcept ValueError as error: assert str(error) == 'no 1'\nelse: assert 0"),  # noqa: E501
        ("def f(x): return b'\\xff'.decode()", "try: f(1)\nexcept ValueError as error: assert type(error).__name__ == 'UnicodeDecodeError'\nelse: assert 0"),  # noqa: E501
        ("class Own(KeyError): pass\ndef f(x): raise Own(x)", "try: f(1)\nexcept KeyError as error: assert type(error).__name__ == 'Own'"),  # noqa: E501
        ("def f(*, a): return {(a, 1): {2.5, None}, 'b': (b'', range(3))}", "assert f(a=1) == {(1, 1): {2.5, None}, 'b': (b'', range(3))}"),  # noqa: E501
        ("import sys\nprint('passed'); print('x', file=sys.stderr)\ndef f(): print('y'); return 1", "print('z')\nassert f() == 1"),  # noqa: E501
    ],
)  # fmt: skip
async def test_what_is_right_passes(fresh: Fresh, source: str, tests: str) -> None:
    verdict = await judge_asserts(fresh, source, tests, function="f")
    assert verdict, verdict.reason
    assert (verdict.interpreter or "").startswith("CPython 3.")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(x): return -1", "AssertionError at line 1 of the tests: assert f(1) == 1"),
        ("def f(x): raise SystemExit(0)", "SystemExit: 0"),
        ("def f(x) return 1", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("import os\nos._exit(0)", "ended by itself while it was loaded"),
        ("import os\ndef f(x): os._exit(0)", "ended by itself in call 1"),
        ("def f(x):\n    while True: pass", "in call 1"),
        ("while True: pass", "while it was loaded"),
        ("class One(int):\n    def __eq__(self, other): return True\ndef f(x): return One(1)", "AssertionError"),
        ("import gc\ndef f(x):\n    for c in gc.get_objects():\n        if type(c).__name__ == 'Channel': c.say({'passed': True, 'why': ''}); c.say({'id': 0, 'value': {'x': 1}})", "cannot be read"),  # noqa: E501
        ("import builtins\nbuiltins.AssertionError = KeyError\ndef f(x): raise AssertionError", "KeyError"),
    ],
)  # fmt: skip
async def test_what_is_wrong_fails_and_says_how(fresh: Fresh, source: str, reason: str) -> None:
    verdict = await judge_asserts(fresh, source, "assert f(1) == 1", function="f", limits=SHORT)
    assert not verdict
    assert reason in (verdict.reason or "")


ENDS = [
    "def f(x): raise StopIteration",
    "def f(x): return next(iter([]))",
    "class End(StopIteration): pass\ndef f(x): raise End(1)",
    "def f(x): raise StopAsyncIteration",
    "def f(x): raise GeneratorExit",
    "f = iter([]).__next__",
]


@pytest.mark.parametrize("source", ENDS)
async def test_no_error_ends_a_loop_of_the_tests(fresh: Fresh, source: str) -> None:
    tests = (
        "assert all(map(lambda x: candidate(x) == -1, [1, 2]))",
        "for got in map(candidate, [1, 2]): assert got == -1",
        "assert [*filter(lambda x: candidate(x) != -1, [1, 2])] == []",
        "def each():\n    yield candidate(1) == -1\nassert all(each())",
        "import asyncio\nasync def each():\n    yield candidate(1) == -1\n"
        "async def main():\n    async for right in each(): assert right\nasyncio.run(main())",
    )
    for test in tests:
        assert not await judge_asserts(fresh, source, test, function="f", limits=SHORT), test


async def test_tests_may_import_what_is_installed(fresh: Fresh) -> None:
    async with fresh() as box:
        if not (await box.exec(["python3", "-I", "-c", "import pytest"])).ok:
            pytest.skip("the boxes' Python has no package to import")
    assert await judge_asserts(
        fresh, "def f(): return 1", "import pytest\nassert f() == pytest.approx(1)", function="f"
    )
    missing = await judge_asserts(fresh, "def f(): return 1", "import nothing_of_that_name", function="f")
    assert "ModuleNotFoundError" in (missing.reason or "")


async def test_broken_tests_are_the_tasks_fault(fresh: Fresh) -> None:
    with pytest.raises(EnvError, match="check"):
        await judge_asserts(fresh, "def f(x): return 1", "def check(candidate): assert candidate(1) == 2", function="f")
    with pytest.raises(EnvError, match="SyntaxError"):
        await judge_asserts(fresh, "def f(x): return 1", "assert assert", function="f")
    with pytest.raises(UsageError, match="no name"):
        await judge_asserts(fresh, "", "", function="f()")
    with pytest.raises(UsageError, match="javascript"):
        await judge_asserts(fresh, "", "", function="f", language="cobol")


async def test_many_at_once_do_not_wait_for_each_other_for_ever(fresh: Fresh) -> None:
    both = asyncio.Semaphore(2)  # as a pool of two boxes, of which each judge needs two

    class Pool:
        def __init__(self) -> None:
            self.box = fresh()

        async def __aenter__(self):
            await both.acquire()
            return await self.box.__aenter__()

        async def __aexit__(self, *error):
            await self.box.__aexit__(*error)
            both.release()

    judged = [judge_asserts(Pool, "def f(x): return x", "assert f(1) == 1", function="f") for _ in range(6)]
    assert all(await asyncio.wait_for(asyncio.gather(*judged), 60))


node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
MULTIPLE = """
const assert = require('node:assert');
function test() {
  let candidate = f;
  assert.deepEqual(candidate([1, 2]), [2, 4]);
  assert.deepEqual(candidate([]), []);
}
test();
"""


@node
@pytest.mark.parametrize("source", ["const f = (xs) => xs.map((x) => 2 * x)", "function f(xs) { console.log(xs); return xs.map((x) => x + x) }", "module.exports.f = (xs) => xs.map((x) => 2 * x)"])  # fmt: skip  # noqa: E501
async def test_javascript_that_is_right_passes(fresh: Fresh, source: str) -> None:
    verdict = await judge_asserts(fresh, source, MULTIPLE, function="f", language="javascript")
    assert verdict, verdict.reason
    assert (verdict.interpreter or "").startswith("node v")


@node
async def test_values_of_javascript_cross(fresh: Fresh) -> None:
    source = (
        "function f(x, m) { m.set(1, 2); return [x, undefined, null, NaN, -0, 10n, 'é\\ud800', new Set([1]), {a: {}}] }"
    )
    tests = (
        "const assert = require('assert'); const m = new Map();"
        "assert.deepStrictEqual(f(-Infinity, m), [-Infinity, undefined, null, NaN, -0, 10n, 'é\\ud800', new Set([1]), {a: {}}]);"  # noqa: E501
        "assert.deepStrictEqual(m, new Map([[1, 2]]));"
    )
    verdict = await judge_asserts(fresh, source, tests, function="f", language="javascript")
    assert verdict, verdict.reason


@node
async def test_names_that_javascript_objects_have_are_only_names(fresh: Fresh) -> None:
    source = """function f(o) {
      Object.defineProperty(o, '__proto__', { value: { right: true }, enumerable: true });
      const error = new Error('no'); error.name = 'constructor'; throw error;
    }"""
    tests = """
    const o = {};
    try { candidate(o) } catch (error) { if (!(error instanceof Error)) process.exit(1) }
    if (o.right) process.exit(1);
    """
    verdict = await judge_asserts(fresh, source, tests, function="f", language="javascript")
    assert verdict, verdict.reason


@node
@pytest.mark.parametrize(
    "source",
    [
        "function f(xs) { return xs }",
        "function f(xs) { process.exit(0) }",
        "function f(xs) { while (true); }",
        "function f(xs) { throw new TypeError('no') }",
        "function f(xs) { return new Proxy([], {}) }",
        "function f(xs) { const a = []; a.push(a); return a }",
        "require('assert').deepEqual = () => {}; function f(xs) { return 1 }",
        "function f(xs) { require('fs').writeSync(3, 'passed'); process.reallyExit(0) }",
        "function f(xs {",
        "const g = 1",
    ],
)
async def test_javascript_that_is_wrong_fails(fresh: Fresh, source: str) -> None:
    assert not await judge_asserts(fresh, source, MULTIPLE, function="f", language="javascript", limits=SHORT)
