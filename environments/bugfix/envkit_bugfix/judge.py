"""Hidden tests that run where the package they judge cannot reach: each of the two has a box of its own.

    tests' box ── do: call 7 with "2.675" ──> host ──> package's box
               <── 268                     <──      <──

The tests import names of the package, and what they do with those is asked of the package's box; plain values come
back, and objects as numbers. So what is expected, what reports and what compares are nowhere that the package's code
runs: whatever it patches, reads or ends there, it can only answer otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from envkit.errors import EnvError, InfraError
from envkit.sandbox.base import ExecLimits, Sandbox
from envkit.verify.code import CaseVerdict, Fresh, Verdict
from envkit.verify.code.asserts import SPARE, two_boxes
from envkit.verify.code.channel import ANSWERS, START, Broken, Peer, new_nonce
from envkit.verify.code.clock import Clock
from envkit.verify.code.programs import program
from envkit.verify.code.programs.codec import to_text
from envkit.verify.code.verdict import printable

CALLS = 100_000
"""Requests of the tests to the package; the most that any here makes of a right one is some thousand."""
BESIDE = "beside"
"""The module of what a task's tests need in the package's box: jobs, generators, subclasses. It expects nothing."""


async def judge(fresh: Fresh, files: Mapping[str, bytes], package: str, tests: str, *, limits: ExecLimits) -> Verdict:
    """The verdict on a package by functions named test_* in the text of its hidden tests, each of which must pass.

    `files` are the package's, with `beside.py` where the tests have one. `limits` hold for the package.
    """
    names = [node.name for node in ast.parse(tests).body if isinstance(node, ast.FunctionDef)]
    names = [name for name in names if name.startswith("test_")]
    modules = [package, *([BESIDE] if f"{BESIDE}.py" in files else [])]
    roomy = limits.model_copy(update={"wall": limits.wall + START})
    async with two_boxes(fresh) as (theirs, ours):
        for path, data in files.items():
            await theirs.write(path, data)
        with Clock() as clock:
            served = await _start(theirs, _program("served.py"), roomy, clock, budget=ANSWERS)
            tested = await _start(ours, _program("tested.py"), roomy, clock)
            try:
                version = await _ready(served)
                await _ready(tested)
                started = clock.now()
                served.deadline, tested.deadline = started + limits.wall, started + limits.wall + SPARE
                await tested.send(to_text([modules, tests, names]))
                cases, reason = await _relay(tested, served, names)
            finally:
                await served.process.kill()
                await tested.process.kill()
    reason = reason or next((case.reason for case in cases if not case.passed), None)
    if reason is None and len(cases) < len(names):
        raise EnvError(f"only {len(cases)} of {len(names)} hidden tests were run, and nothing says why")
    return Verdict(reason is None, tuple(cases), reason, None, interpreter=version)


@cache
def _program(name: str) -> str:
    folder = Path(__file__).with_name("programs")
    lines = [line for file in ("crossing.py", name) for line in (folder / file).read_text("utf-8").splitlines()]
    return program("codec.py", "channel.py") + "\n".join(line for line in lines if not line.startswith("from "))


async def _start(box: Sandbox, text: str, limits: ExecLimits, clock: Clock, budget: int | None = None) -> Peer:
    return Peer(await box.spawn(["python3", "-I", "-B", "-c", text], limits=limits), new_nonce(), clock, budget=budget)


async def _ready(peer: Peer) -> str:
    """Its Python's version. It has met nothing hostile: where it does not answer, the box is at fault."""
    try:
        await peer.send(to_text(peer.nonce))
        return printable(str((await peer.hear()).get("ready")), 80)
    except Broken as broken:
        raise InfraError(f"The box cannot run python3: it {broken} before it was given anything.") from None


async def _relay(tested: Peer, served: Peer, names: Sequence[str]) -> tuple[list[CaseVerdict], str | None]:
    """Carry what the tests ask for to the package and what came of it back, until they end; a case for each that ended,
    and what went wrong beside them."""
    cases: list[CaseVerdict] = []
    calls = 0
    try:
        while True:
            match await tested.hear():
                case {"call": request} if calls < CALLS:
                    calls += 1
                    await tested.send(to_text(await _answer(served, request)))
                case {"test": str(name), "passed": bool(passed), "why": str(why)}:
                    cases.append(CaseVerdict(passed, None, None, printable(f"{name}: {why}", 500)))
                case {"unusable": str(why)}:
                    return cases, f"the tests cannot use the package: {printable(why, 500)}"
                case {"end": True}:
                    return cases, None
                case _:
                    return cases, f"the tests made more than {CALLS} calls, in {names[len(cases)]}"
    except _Gone as broken:
        return cases, f"the package {broken}, in {names[len(cases)] if len(cases) < len(names) else 'the end'}"
    except Broken as broken:
        return cases, f"the tests did not come to an end: their program {broken}"


class _Gone(Exception):
    """The package's program does not answer."""


async def _answer(served: Peer, request: Any) -> dict[str, Any]:
    try:
        await served.send(to_text(request))
        while (reply := await served.hear()).get("id") != request["id"]:
            pass
    except Broken as broken:
        raise _Gone(str(broken)) from None
    return reply
