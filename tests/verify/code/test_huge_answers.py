"""Programs that answer with as much as they can, or never end: other work of the same process goes on meanwhile."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from material import material

from envkit.sandbox.base import ExecLimits, MiB
from envkit.verify.code import Call, Fresh, StdioCase, judge_asserts, judge_calls, judge_stdio

SHORT = ExecLimits(wall=3, cpu=3)
HELD = 1.5
"""Seconds for which the loop may be held at a time, on a machine that is busy with other tests."""
TAKEN = 400 * MiB

FIND = "import gc, os\ndef channel():\n    return next(o for o in gc.get_objects() if type(o).__name__ == 'Channel')\n"
HUGE = {
    "integers": "def f(n): return list(range(n, n + 800000))",
    "text": "def f(n): return '\\ud800' * (4 << 20)",
    "nested": "def f(n): return [[[i]] for i in range(200000)]",
    "colliding": "def f(n): return {i * (2**61 - 1) for i in range(1, 60000)}",
    "endless": "def f(n): return range(10**30)",
    "one integer": "def f(n): return 1 << (1 << 24)",
    "mutated": "def f(n):\n    n.extend(range(800000))\n    return 5",
    "empty lines": FIND + "def f(n):\n    c = channel()\n    while True: os.write(c.fd, b'\\n' * 65536)",
    "no messages": FIND + "def f(n):\n    c = channel()\n    while True: c.say(1)",
    "others' answers": FIND + "def f(n):\n    c = channel()\n    while True: c.say({'id': -1, 'value': 'x' * 4000})",
    "an endless line": FIND + "def f(n):\n    c = channel()\n    line = b'\\n' + c.nonce.encode() + b' {'\n"
    "    while True: line = line[os.write(c.fd, line):] or b'1' * 65536",
}  # fmt: skip


@asynccontextmanager
async def bounded() -> AsyncGenerator[None]:
    """Fails where the loop was held for longer than HELD at a time, or more memory than TAKEN was."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - started)

    ticking = asyncio.create_task(tick())
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("RSS")
    try:
        yield
    finally:
        ticking.cancel()
    assert longest < HELD
    assert memory("HWM") - before < TAKEN


def memory(kind: str) -> int:
    """Bytes that this process has, or had at most since it was last asked."""
    found = re.search(rf"Vm{kind}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("name", HUGE)
async def test_a_huge_answer_to_test_code_is_bounded(name: str, fresh: Fresh) -> None:
    tests = "for n in range(300): assert candidate([n] if LIST else n) == 5".replace("LIST", str(name == "mutated"))
    async with bounded():
        verdict = await judge_asserts(fresh, HUGE[name], tests, function="f", limits=SHORT)
    assert not verdict


@pytest.mark.parametrize("name", HUGE)
async def test_huge_results_are_bounded(name: str, fresh: Fresh) -> None:
    calls = [Call("f", ([n] if name == "mutated" else n,), expected=0) for n in range(100)]
    async with bounded():
        verdict = await judge_calls(fresh, HUGE[name], calls, limits=SHORT)
    assert not verdict


@pytest.mark.parametrize("line", ["\\n", "1 ", "x" * 80 + "\\n", " 1\\r\\n"])
async def test_a_huge_output_is_bounded(line: str, fresh: Fresh) -> None:
    source = f"import sys\nsys.stdout.write('{line}' * (6_000_000 // len('{line}')) + '2')"
    async with bounded():
        assert not await judge_stdio(fresh, source, [StdioCase("", "1 " * 3_000_000)], limits=SHORT)


async def test_the_materials_huge_return_is_bounded(fresh: Fresh) -> None:
    source = material("attacks/huge_return.py").read_text()
    async with bounded():
        assert not await judge_asserts(fresh, source, "assert solve([1, 2]) == 3", function="solve", limits=SHORT)
        assert not await judge_calls(fresh, source, [Call("solve", ([1, 2],), expected=3)], limits=SHORT)


async def test_time_for_which_others_hold_the_loop_is_not_the_programs(fresh: Fresh) -> None:
    async def hold() -> None:
        while True:
            time.sleep(0.1)  # noqa: ASYNC251 - it is to hold the loop
            await asyncio.sleep(0)

    holding = asyncio.create_task(hold())
    try:
        tests = "for n in range(8): assert f(n) == n"
        verdict = await judge_asserts(fresh, "def f(n): return n", tests, function="f", limits=ExecLimits(wall=1))
        assert verdict, verdict.reason
    finally:
        holding.cancel()
