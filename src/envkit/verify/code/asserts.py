"""Tests that are code, as HumanEval's and MBPP's: they run in a box of their own, and the candidate in another.

    test box ── call 7: f([1, 2]) ──> host ──> candidate's box
             <── its value, checked ─      <──

In the test box, `candidate` and the function's own name are calls that the host relays. The verdict is the test
program's, whose box holds no code of the candidate: only plain values cross, and the host checks each.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from envkit.errors import EnvError, InfraError, UsageError
from envkit.sandbox.base import ExecLimits, Sandbox
from envkit.verify.code.calls import described
from envkit.verify.code.channel import ANSWERS, START, Broken, Peer, is_tree, new_nonce
from envkit.verify.code.clock import Clock, apart
from envkit.verify.code.extract import Program, as_program
from envkit.verify.code.nothing import nothing_to_run
from envkit.verify.code.programs import program
from envkit.verify.code.programs.codec import to_text
from envkit.verify.code.verdict import CaseVerdict, Fresh, Verdict, conclude, printable, without_addresses

SPARE = 5.0
"""Seconds that the test program has beyond the candidate's limit, for its own work."""

CALLS = 100_000
"""Calls that one test program may make: more are a loop that does not end."""


class BrokenTests(EnvError):
    """The task's own test code does not compile: nothing can pass it, which is not the program's fault."""


async def judge_asserts(
    fresh: Fresh,
    source: Program | str | None,
    tests: str,
    *,
    function: str,
    language: str = "python",
    context: str = "",
    limits: ExecLimits | None = None,
) -> Verdict:
    """The verdict on a program by trusted test code that calls `candidate(...)` or `function` by its name.

    `language` is "python" or "javascript", for both. `context` is trusted code that the tests need beside themselves,
    such as a prompt's own auxiliary functions. HumanEval's tests need their call at the end: "check(candidate)".
    Exceptions cross as the nearest built-in kind, with their words; an object that is no plain value crosses as one
    that equals nothing; lists, dicts, sets and bytearrays that were arguments are left as the candidate left them.
    `limits` hold for the candidate, and nearly so for the tests. BrokenTests where the tests do not compile, EnvError
    where they never call the candidate, InfraError where the language cannot be run. It holds two boxes at once.
    """
    kit = _kit(language, function)
    if source is None:
        return await nothing_to_run(fresh, language=language)
    judged = as_program(source, language)
    async with two_boxes(fresh) as (first, second):
        within = limits or first.spec.limits
        roomy = within.model_copy(update={"wall": within.wall + START})
        with Clock() as clock:
            candidate = await _spawn(first, [*kit.argv, kit.candidate], roomy, clock, budget=ANSWERS)
            tester = await _spawn(
                second, [*kit.trusted_argv, kit.tester], roomy.model_copy(update={"cpu": within.cpu + START}), clock
            )
            try:
                version = await _ready(candidate, kit)
                await _ready(tester, kit)
                started = clock.now()
                candidate.deadline, tester.deadline = started + within.wall, started + within.wall + SPARE
                reason = await _load(candidate, judged.source)
                reason = reason or await _relay(tester, candidate, [context, tests, function])
                wall = clock.now() - started
            finally:
                await candidate.process.kill()
                await tester.process.kill()
    case = CaseVerdict(reason is None, None, None, reason or "the tests passed", wall)
    return conclude(judged, [case], 1, interpreter=version)


@dataclass(frozen=True)
class _Kit:
    """What runs a language's two programs."""

    argv: tuple[str, ...]
    trusted_argv: tuple[str, ...]
    candidate: str
    tester: str
    package: str


def _kit(language: str, function: str) -> _Kit:
    if not re.fullmatch(r"[A-Za-z_$][\w$]{0,200}", function):
        raise UsageError(f"{function!r} is no name of a function.")
    match language:
        case "python":
            mine, theirs = (
                program("codec.py", "channel.py", "candidate.py"),
                program("codec.py", "channel.py", "tester.py"),
            )
            return _Kit(("python3", "-c"), ("python3", "-I", "-S", "-c"), mine, theirs, "python3")
        case "javascript":
            start = 'exec 3>&1 1>/dev/null 2>/dev/null; exec node -e "$0"'
            mine, theirs = program("codec.js", "candidate.js"), program("codec.js", "tester.js")
            return _Kit(("sh", "-c", start), ("sh", "-c", start), mine, theirs, "nodejs")
        case _:
            raise UsageError(f"There are no assert-style tests in {language!r} here, only in python and javascript.")


async def _spawn(box: Sandbox, argv: list[str], limits: ExecLimits, clock: Clock, budget: int | None = None) -> Peer:
    return Peer(await box.spawn(argv, limits=limits), new_nonce(), clock, budget=budget)


async def _ready(peer: Peer, kit: _Kit) -> str:
    """The version of what runs a program that has met nothing hostile: where it does not answer, the box is at
    fault."""
    try:
        await peer.send(to_text(peer.nonce))
        return printable(str((await peer.hear()).get("ready")), 80)
    except Broken as broken:
        raise InfraError(
            f"The box cannot run {kit.package}: it {broken} before it was given a program. "
            f"Install {kit.package} in its image."
        ) from None


async def _load(candidate: Peer, source: str) -> str | None:
    """Give the candidate's box the program; why it cannot be used, where it cannot."""
    try:
        await candidate.send(to_text(source))
        message = await candidate.hear()
    except Broken as broken:
        return f"the program {broken} while it was loaded"
    return described(message["unloadable"]) if "unloadable" in message else None


async def _relay(tester: Peer, candidate: Peer, material: list[str]) -> str | None:
    """Carry calls to the candidate and values back, until the tests report; None where they passed."""
    calls = 0
    try:
        await tester.send(to_text(material))
        while True:
            match await tester.hear():
                case {"call": request} if calls < CALLS:
                    calls += 1
                    asked = await apart(tester.heard, to_text, request)
                    await tester.send(await _answer(candidate, request["id"], asked))
                case {"passed": True} if calls:
                    return None
                case {"passed": True}:
                    raise EnvError("The tests passed without a call of the candidate. Do they end in check(candidate)?")
                case {"passed": False, "why": str(why)}:
                    return printable(without_addresses(" ".join(why.split())), 500) or "a test failed"
                case {"broken": str(why)}:
                    raise BrokenTests(f"The task's tests cannot be run: {printable(why, 500)}")
                case _:
                    return "the tests made too many calls"
    except _CandidateBroken as broken:
        return f"the program {broken} in call {calls}"
    except Broken as broken:
        return f"the tests did not come to an end: their program {broken}"


class _CandidateBroken(Exception):
    pass


async def _answer(candidate: Peer, call: object, asked: str) -> str:
    """What the candidate's box says of a call, and nothing in it that is no value, error or argument."""
    try:
        await candidate.send(asked)
        while (reply := await candidate.hear()).get("id") != call:
            pass
    except Broken as broken:
        raise _CandidateBroken(str(broken)) from None
    return await apart(candidate.heard, _checked, reply)


def _checked(reply: dict[str, Any]) -> str:
    answer: dict[str, Any] = {}
    match reply:
        case {"args": args} if args.__class__ is list and is_tree(args):
            answer["args"] = reply["args"]
        case _:
            pass
    match reply:
        case {"value": value} if is_tree(value):
            return to_text({**answer, "value": value})
        case {"raised": {"names": [str(name), *more], "words": str(words)}}:
            names = [name, *(each for each in more if isinstance(each, str))]
            return to_text({**answer, "raised": {"names": [each[:100] for each in names[:20]], "words": words[:300]}})
        case _:
            raise _CandidateBroken("gave an answer that cannot be read")


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


@asynccontextmanager
async def two_boxes(fresh: Fresh) -> AsyncGenerator[tuple[Sandbox, Sandbox]]:
    """Two boxes. One judge at a time waits for its second one, or many could each hold one and wait for ever."""
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with AsyncExitStack() as stack:
        async with turn:
            first = await stack.enter_async_context(fresh())
            second = await stack.enter_async_context(fresh())
        yield first, second
