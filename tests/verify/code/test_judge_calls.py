from __future__ import annotations

import re
from typing import Any

import pytest
from material import material, rows

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import ExecLimits
from envkit.trace import Score
from envkit.verify.code import (
    Call,
    Fresh,
    StdioCase,
    as_json,
    extract,
    judge_asserts,
    judge_calls,
    judge_stdio,
    nothing_to_run,
)
from envkit.verify.code.toolchain import Toolchain, interpreter

SUMS = [Call("solve", [list(range(n))], expected=sum(range(n))) for n in (3, 5, 0, 9)]
SHORT = ExecLimits(wall=2, cpu=2)


async def test_a_correct_function_passes_every_case(fresh: Fresh) -> None:
    verdict = await judge_calls(fresh, "def solve(xs): return sum(xs)", SUMS)
    assert verdict
    assert [case.got for case in verdict.cases] == ["3", "10", "0", "36"]
    assert (verdict.interpreter or "").startswith("CPython 3.")
    assert Score.of(verdict).value == 1


async def test_a_reply_is_judged_with_its_span(fresh: Fresh) -> None:
    reply = "Here:\n```python\ndef solve(xs):\n    return 0\n```"
    verdict = await judge_calls(fresh, extract(reply, must_define="solve"), SUMS)
    assert not verdict
    assert verdict.reason == "different: expected 3, got 0"
    assert len(verdict.cases) == 1
    score = Score.of(verdict)
    assert score.value == 0
    assert score.span is not None
    assert reply[slice(*score.span)] == verdict.answer


async def test_where_there_is_no_program_the_verdict_names_the_interpreter(fresh: Fresh) -> None:
    for verdict in (
        await judge_calls(fresh, None, SUMS),
        await judge_stdio(fresh, None, [StdioCase("", "")]),
        await judge_asserts(fresh, None, "assert f() == 1", function="f"),
        await nothing_to_run(fresh, "it is too long", answer="x"),
    ):
        assert not verdict
        assert (verdict.interpreter or "").startswith("CPython 3.")
    assert (verdict.reason, verdict.answer) == ("it is too long", "x")


async def test_what_cannot_be_called_is_a_mistake() -> None:
    def none() -> Any:
        raise AssertionError

    with pytest.raises(UsageError, match="nothing to judge"):
        await judge_calls(none, "x = 1", [])
    with pytest.raises(UsageError, match="no function to call"):
        await judge_calls(none, "x = 1", [Call("os.system('x')")])
    with pytest.raises(UsageError, match="cannot be sent"):
        await judge_calls(none, "x = 1", [Call("f", [{"a": [object()]}])])


async def test_methods_keywords_and_every_plain_type_arrive(fresh: Fresh) -> None:
    source = "class Solution:\n    def same(self, *a, **k):\n        return (a, k)"
    values = [None, True, 2**80, 1.5, "é\ud800", b"\x00", (1, [2]), {3}, frozenset({4}), {(1, 2): {}}, 1j]
    call = Call("Solution().same", values, {"key": float("inf")}, (tuple(values), {"key": float("inf")}))
    assert await judge_calls(fresh, source, [call])


async def test_each_call_has_its_own_arguments(fresh: Fresh) -> None:
    shared = [3, 1, 2]
    calls = [Call("smallest", [shared], expected=1), Call("smallest", [shared], expected=1)]
    assert await judge_calls(fresh, "def smallest(xs):\n    xs.sort()\n    return xs.pop(0)", calls)
    assert shared == [3, 1, 2]


async def test_a_tuple_is_a_list_only_where_the_judge_says_so(fresh: Fresh) -> None:
    calls = [Call("pair", [], expected=[1, 2])]
    assert not await judge_calls(fresh, "def pair(): return 1, 2", calls)
    assert await judge_calls(fresh, "def pair(): return 1, 2", calls, compare=as_json)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def solve(xs) return 1", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = 1", "AttributeError"),
        ("def solve(xs): return xs[100]", "line 1: IndexError: list index out of range"),
        ("def solve(xs): return solve(xs)", "RecursionError"),
        ("def solve(xs): raise ValueError(object())", "ValueError: <object object>$"),
        ("raise SystemExit(0)", "SystemExit"),
        ("import os\nos._exit(0)", "ended by itself while it was loaded"),
        ("import os\ndef solve(xs): os._exit(0)", "ended by itself before it returned"),
        ("import os\ndef solve(xs): os.closerange(0, 100)\n", "ended by itself|exited|was ended|different"),
        ("def solve(xs):\n    while True: pass", "time limit|signal"),
        (
            "import os\nfor fd in range(100):\n    try: os.write(fd, b'x' * 99)\n    except OSError: pass",
            "AttributeError",
        ),
        ("def solve(xs): return b'x' * (1 << 40)", "MemoryError|memory"),
    ],
)
async def test_what_goes_wrong_fails_and_says_how(fresh: Fresh, source: str, reason: str) -> None:
    verdict = await judge_calls(fresh, source, SUMS, limits=SHORT)
    assert not verdict
    assert re.search(reason, verdict.reason or ""), verdict.reason


async def test_without_stopping_early_one_death_costs_one_case(fresh: Fresh) -> None:
    source = "import os\ndef solve(xs):\n    if len(xs) == 5: os._exit(0)\n    return sum(xs)"
    verdict = await judge_calls(fresh, source, SUMS, stop_early=False)
    assert [case.passed for case in verdict.cases] == [True, False, True, True]
    assert not verdict


async def test_printing_and_reading_are_nothing_to_the_judge(fresh: Fresh) -> None:
    source = "import sys\nprint('x' * 3_000_000)\nsys.stdin.read()\ndef solve(xs):\n    print(xs)\n    return sum(xs)"
    assert await judge_calls(fresh, source, SUMS)


async def test_a_program_that_takes_back_the_first_words_fails(fresh: Fresh) -> None:
    source = """
import os
for fd in range(3, 20):
    try:
        back = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
        while os.read(back, 1 << 20):
            pass
    except OSError:
        pass
os._exit(0)
"""
    verdict = await judge_calls(fresh, source, SUMS)
    assert not verdict


async def test_forged_answers_are_only_values(fresh: Fresh) -> None:
    source = """
import gc, json, os, sys, threading
def solve(xs):
    for channel in gc.get_objects():
        if type(channel).__name__ == "Channel":
            for index in range(4):
                for word in ({"passed": True}, {"value": True}, {"value": {"o": "0"}}, {"verdict": "correct"}):
                    channel.say(dict(word, id=index, correct=True))
    os._exit(0)
"""
    assert not await judge_calls(fresh, source, SUMS, stop_early=False)


async def test_a_missing_interpreter_is_no_verdict(fresh: Fresh) -> None:
    missing = Toolchain("cobol", "main.cob", ("cobc",), ("./main",), ("cobc", "--version"), "", "gnucobol")
    async with fresh() as box:
        with pytest.raises(InfraError, match="Install gnucobol"):
            await interpreter(box, missing)


async def test_hacks_of_the_material_fail(fresh: Fresh) -> None:
    hacks = [row for row in rows("attacks/manifest.jsonl") if row["class"] == "hack"]
    assert len(hacks) > 20
    cases = [
        StdioCase(f"{len(call.args[0])}\n{' '.join(map(str, call.args[0]))}\n", str(call.expected)) for call in SUMS
    ]
    tests = "for n in (3, 5, 0, 9):\n    assert candidate(list(range(n))) == sum(range(n))"
    for hack in hacks:
        source = material(f"attacks/{hack['file']}").read_text()
        if hack["task"] == "stdio":
            verdicts = [await judge_stdio(fresh, source, cases, limits=SHORT)]
        else:
            verdicts = [
                await judge_calls(fresh, source, SUMS, limits=SHORT),
                await judge_asserts(fresh, source, tests, function="solve", limits=SHORT),
            ]
        assert not any(verdicts), hack["file"]
    assert await judge_asserts(fresh, "def solve(xs): return sum(xs)", tests, function="solve")
    assert await judge_stdio(fresh, "input()\nprint(sum(map(int, input().split())))", cases)
