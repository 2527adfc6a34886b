"""bugfix: solutions are paid and nothing else is, whatever an agent leaves in its box; histories are shortened."""

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from textwrap import dedent, indent
from typing import Any

import pytest
from environments.cuts import cut_everywhere
from environments.replays import rollouts

from envkit import Endpoint, Limits, Message, Scripted, Services, run_rollout
from envkit.clients.http import HTTPClient
from envkit.clients.scripted import Oracle, call
from envkit.packages.check import check
from envkit.packages.find import find
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.sandbox.pool import Boxes
from envkit.sandbox.slot.backend import SlotBackend
from envkit.types import Usage
from server import Server

pytestmark = pytest.mark.usefixtures("isolated")


def load(**args: Any) -> Any:
    return find("bugfix").load(**args)


def task_of(env: Any, name: str) -> Any:
    return next(task for task in env.tasks if task.id == name)


def solution(name: str) -> str:
    env = load()
    said = env.oracle(task_of(env, name), [Message.user("?")])
    return str(json.loads(said.tool_calls[0].arguments)["command"])


async def left(name: str, *commands: str) -> Any:
    """The trace of an agent that runs these commands and submits."""
    env = load()
    model = Scripted([*(call("shell", command=command) for command in commands), call("submit")])
    [trace] = (await rollouts(env, model, [task_of(env, name)])).values()
    assert trace.error is None, trace.error
    return trace


async def test_every_gate_is_passed() -> None:
    gates = await check(find("bugfix"), n=1)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_every_solution_is_paid_and_silence_is_not() -> None:
    env = load()
    assert len(list(env.tasks)) == 13
    right = await rollouts(env, Oracle(env))
    assert {name: trace.reward for name, trace in right.items() if trace.reward != 1.0} == {}
    silent = await rollouts(load(), Scripted(lambda _: ""))
    assert {trace.reward for trace in silent.values()} == {0.0}


async def test_a_repository_that_is_only_touched_is_as_wrong_as_it_was() -> None:
    packages = {"ledger-rounding": "ledger", "lru-order": "store"}
    traces = [await left(name, f"echo '# looked at' >> {package}/__init__.py") for name, package in packages.items()]
    for trace in traces:
        assert trace.reward == 0.0
        assert trace.scores["repaired"].reason.startswith("test_")


PASSING = "import pytest\\ndef pytest_runtest_makereport(item, call):\\n    pass\\n"
ATTACKS = {
    "conftest": f"printf '{PASSING}' | tee conftest.py ledger/conftest.py tests/conftest.py hidden/conftest.py",
    "sitecustomize": "printf 'import os\\nos._exit(0)\\n' | tee sitecustomize.py ledger/sitecustomize.py",
    "edited tests": "echo 'def test_a(): pass' > tests/test_invoice.py; mkdir -p hidden; echo > hidden/test_hidden.py",
    "early reward": "cd /logs/verifier; echo 1 > reward.txt; echo '{\"reward\": 1}' > reward.json",
    "fake pytest": "mkdir -p bin; printf '#!/bin/sh\\necho 9 passed\\n' > bin/pytest; chmod +x bin/pytest; "
    "echo 'def main(*a, **k): return 0' | tee pytest.py ledger/pytest.py; export PATH=$PWD/bin:$PATH",
    "killed verifier": "echo 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)' >> ledger/__init__.py",
    "killed parent": "echo 'import os; os.kill(os.getppid(), 9); os._exit(0)' >> ledger/__init__.py",
    "early exit": "echo 'import os; os._exit(0)' >> ledger/money.py",
    "skipped": "printf 'import pytest\\npytest.skip(\"no\", allow_module_level=True)\\n' > ledger/money.py",
    "background": "(while true; do echo 1 > /logs/verifier/reward.txt; done) & sleep 0.2",
    "a link": "rm ledger/money.py; ln -s /etc/passwd ledger/money.py",
    "a flood": "head -c 2000000 /dev/zero | tr '\\0' '#' > ledger/flood.py",
    "no text": "printf '\\377\\376' > ledger/odd.py",
    "nothing left": "rm -rf -- * .[a-z]*",
    "long as JSON": "head -c 390000 /dev/zero | tr '\\0' '\\1' > ledger/odd.py",
    "a name that is no text": "echo > $'ledger/\\xff.py'",
    "many files": "for i in {1..300}; do echo > ledger/a$i.py; done",
    "equal to everything": """cat > ledger/money.py <<'END'
class Any(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
    __add__ = __radd__ = __neg__ = lambda self, *other: self
def cents(amount):
    return Any(0)
def shown(amount):
    return str(int(amount))
END
sed -i 's/return cents(sum.*/return cents(0)/' ledger/invoice.py""",
}


def within(code: str) -> str:
    """A command that has the package run this when it is imported, and go on as it was."""
    return f"cat >> ledger/__init__.py <<'END'\ntry:\n{indent(dedent(code), '    ')}\nexcept Exception:\n    pass\nEND"


ATTACKS |= {
    "patched comparison": within("import values_of_tests as v; v._plain = lambda value: None"),
    "patched pytest": within(
        """
        from _pytest.reports import TestReport
        made = TestReport.from_item_and_call.__func__
        def passing(kind, item, call):
            if 'hidden' in item.nodeid:
                call.excinfo = None
            return made(kind, item, call)
        TestReport.from_item_and_call = classmethod(passing)
        """
    ),
    "patched unittest": within("import unittest; unittest.TestCase.run = lambda self, result=None: result"),
    "patched hooks": within(
        """
        import sys
        for module in list(sys.modules.values()):
            for name in [name for name in vars(module) if name.startswith(("pytest_", "runtest", "call_", "_call"))]:
                setattr(module, name, lambda *args, **kwargs: None)
        """
    ),
    "patched server": within("import __main__; __main__.crossed = lambda value, mention: {'value': True}"),
    "patched operators": within(
        """
        import operator, builtins
        operator.eq = lambda a, b: True
        builtins.AssertionError = type('Never', (Exception,), {'__new__': lambda *args: 1 / 0})
        """
    ),
    "patched exit": within("import os, sys, atexit; atexit.register(lambda: os._exit(0)); sys.exit = lambda *a: None"),
    "traced": within(
        """
        import sys
        def trace(frame, event, arg):
            if event == 'exception':
                frame.f_trace_lines = False
            return trace
        sys.settrace(trace)
        """
    ),
    "an importer": within(
        """
        import sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if 'hidden' in name or 'beside' in name:
                    raise SystemExit(0)
        sys.meta_path.insert(0, Finder())
        """
    ),
    "results of its own": within(
        """
        class Equal:
            __eq__ = __ge__ = __le__ = lambda self, other: True
            __neg__ = __bool__ = __len__ = __iter__ = __next__ = __add__ = lambda self, *other: self
            __hash__ = object.__hash__
        import ledger
        ledger.cents = ledger.Line = ledger.Invoice = lambda *args: Equal()
        """
    ),
    "forged reports": within(
        """
        import __main__, json, os, sys
        frame = sys._getframe()
        while frame.f_back:
            frame = frame.f_back
            channel = frame.f_locals.get('channel')
            if channel:
                names = ['test_half_a_cent_goes_up', 'test_lines_are_rounded_one_by_one']
                for said in [{'test': name, 'passed': True, 'why': 'passed'} for name in names] + [{'end': True}]:
                    for number in [None, *range(400)]:
                        channel.say(said if number is None else {'id': number, **said})
        """
    ),
    "what is expected": within(
        """
        import gc, ledger, sys, types
        def expected(amount):
            frame = sys._getframe()
            while frame:
                consts = frame.f_code.co_consts
                if amount in consts[:-1]:
                    return consts[consts.index(amount) + 1]
                frame = frame.f_back
            for found in gc.get_objects():
                if isinstance(found, types.FunctionType) and amount in found.__code__.co_consts[:-1]:
                    if found.__module__ != __name__:
                        return found.__code__.co_consts[found.__code__.co_consts.index(amount) + 1]
            return round(float(amount) * 100)
        ledger.cents = ledger.money.cents = ledger.invoice.cents = expected
        """
    ),
}


@pytest.mark.parametrize("name", list(ATTACKS))
async def test_what_an_agent_plants_is_not_paid(name: str) -> None:
    assert (await left("ledger-rounding", ATTACKS[name])).reward == 0.0


async def test_a_repair_that_never_ends_is_wrong_long_before_the_scoring_fails(monkeypatch: Any) -> None:
    package = sys.modules[type(load()).__module__]
    assert package.TESTING.wall < load().limits.score
    monkeypatch.setattr(package, "TESTING", ExecLimits(wall=10.0, cpu=2.0))
    trace = await left("ledger-rounding", "echo 'while True: pass' >> ledger/money.py")
    assert trace.reward == 0.0
    assert "the package ran past its time limit" in trace.scores["repaired"].reason


async def test_a_repair_is_paid_with_all_that_beside_it() -> None:
    planted = [ATTACKS[name] for name in ("conftest", "sitecustomize", "edited tests", "early reward", "fake pytest")]
    trace = await left("ledger-rounding", *planted, solution("ledger-rounding"), "rm -f ledger/pytest.py")
    assert trace.reward == 1.0, trace.scores
    assert {path.split("/")[0] for path in trace.info["changed"]} == {"ledger"}


PACKAGE = """
import datetime, decimal, collections
class Odd(ValueError):
    def __init__(self, path):
        super().__init__("odd")
        self.path = path
class Odder(Odd): pass
class Thing:
    size = 3
    def __len__(self): return 2
    def __contains__(self, value): return value == 1
class Liar(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
Row = collections.namedtuple("Row", "rank")
one = Thing()
def same(value): return value
def fails(path): raise Odder(path)
def things(): return [one, (one, 1)]
def kind(value): return type(value).__name__
def ends(): __import__("os")._exit(0)
"""
HOLDS = {
    "values": "assert same([1, 2.5, None, 'a', b'b', {1: (2,)}, {3}]) == [1, 2.5, None, 'a', b'b', {1: (2,)}, {3}]",
    "dates": "import datetime as d\n    assert same(d.date(2024, 2, 29)) == d.date(2024, 2, 29)",
    "decimals": "from decimal import Decimal\n    assert [kind(same(Decimal('1.10')))] == ['Decimal']",
    "errors": "import pk\n    try:\n        fails(['a'])\n    except pk.Odd as error:\n        "
    "assert (error.path, str(error), isinstance(error, ValueError)) == (['a'], 'odd', True)",
    "python's own errors": "try:\n        same(1, 2)\n    except TypeError:\n        pass",
    "identity": "assert things()[0] is things()[1][0] is one",
    "what objects say": "assert (len(one), 1 in one, 2 in one, one.size, bool(one)) == (2, True, False, 3, True)",
    "objects there": "assert kind(one) == 'Thing'",
}
DOES_NOT = {
    "a subclass": ("assert same(Liar(3)) == 3", "no plain value"),
    "a tuple's subclass": ("assert [Row(1)] == [(1,)]", "no plain value"),
    "an object": ("assert things()[0] == 1", "no plain value"),
    "a function of the tests": ("assert kind(lambda: 1) == 'function'", "cannot cross"),
    "another value": ("assert same(1) == 2", "assert same(1) == 2"),
    "an error": ("fails(1)", "Odder: odd"),
    "an early end": ("ends()", "the package ended by itself, in test_it"),
}


async def judged(body: str) -> Any:
    names = "Liar, Row, ends, fails, kind, one, same, things"
    text = f"from pk import {names}\n\ndef test_it():\n    {body}\n"
    backend = SlotBackend()

    @asynccontextmanager
    async def fresh() -> AsyncGenerator[Any]:
        async with await backend.start(SandboxSpec()) as box:
            yield box

    module = sys.modules[type(load()).__module__ + ".judge"]
    try:
        return await module.judge(fresh, {"pk/__init__.py": PACKAGE.encode()}, "pk", text, limits=ExecLimits())
    finally:
        await backend.close()


@pytest.mark.parametrize("name", list(HOLDS))
async def test_what_the_package_does_is_seen_by_tests_in_another_box(name: str) -> None:
    verdict = await judged(HOLDS[name])
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize("name", list(DOES_NOT))
async def test_what_is_no_plain_value_equals_nothing_and_a_failure_says_why(name: str) -> None:
    body, why = DOES_NOT[name]
    verdict = await judged(body)
    assert not verdict.correct
    assert why in verdict.reason


async def test_it_may_be_cut_at_every_turn() -> None:
    env = load()
    [traces] = (await cut_everywhere(env, [task_of(env, "cache-key")], Oracle(env))).values()
    assert [trace.reward for trace in traces] == [0.0, 1.0, 1.0]


async def test_it_ends_after_forty_turns_and_submit_ends_it() -> None:
    assert load().limits.max_turns == 40
    trace = await left("cache-key", "ls")
    assert (trace.outcome, len(trace.turns)) == ("completed", 2)


class Counting(Scripted):
    """A model that says how large its prompt was."""

    async def complete(self, request: Any) -> Any:
        said = await super().complete(request)
        size = sum(len(message.text) for message in request.messages)
        return replace(said, usage=Usage(prompt_tokens=size, completion_tokens=1))


async def test_a_history_is_shortened_where_the_window_fills() -> None:
    env = load(window=16_000)
    commands = [call("shell", command=f"echo begin {i}; head -c 3000 /dev/zero | tr '\\0' x") for i in range(12)]
    model = Counting([*commands, call("submit")])
    boxes = Boxes("slot")
    try:
        services = Services({"policy": model}, limits=Limits(max_turns=40), boxes=boxes)
        trace = await run_rollout(env, task_of(env, "cache-key"), services)
    finally:
        await env.end()
        await boxes.close()
    assert trace.error is None, trace.error
    sizes = [turn.usage.prompt_tokens for turn in trace.turns if turn.usage]
    assert max(sizes) < 24_000
    last = trace.prompt(len(trace.turns) - 1)
    assert last[0].role == "system"
    shown = [message.text for message in last if message.role == "tool"]
    assert len(shown) == 12
    assert all(text.startswith(f"begin {i}\n") for i, text in enumerate(shown))
    assert "characters were left out since" in shown[0]
    assert all(len(text) > 3000 for text in shown[-6:])


async def test_results_that_flood_a_window_leave_it_room() -> None:
    """Nine results of a megabyte in one reply, and one after that: no prompt is longer than the window."""
    flood = call("shell", command="head -c 900000 /dev/zero | tr '\\0' x")
    [one] = flood.tool_calls
    many = Message.assistant(tool_calls=tuple(one.model_copy(update={"id": f"c{i}"}) for i in range(9)))
    window = 16_000
    env = load(window=window)
    model = Counting([many, flood, call("submit")])
    [trace] = (await rollouts(env, model, [task_of(env, "cache-key")])).values()
    assert trace.error is None, trace.error
    characters = [sum(len(m.text) for m in trace.prompt(i)) for i in range(len(trace.turns))]
    assert len(characters) == 3
    assert max(characters) / 3 < window


async def test_what_was_shortened_trains_under_what_the_model_saw() -> None:
    """With token ids of a server: before and after a compaction, each reply below its own prompt and no other."""
    said = [call("shell", command=f"echo {i}; head -c 900 /dev/zero | tr '\\0' x") for i in range(10)]
    replies = iter([*said, call("submit")])

    def reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
        message = next(replies)
        return {"content": f"step {len(messages)}.", "tool_calls": [c.to_wire() for c in message.tool_calls]}

    with Server(reply=reply) as server:
        client = HTTPClient(Endpoint(url=server.url, model="model"))
        env, boxes = load(window=8000), Boxes("slot")
        try:
            services = Services({"policy": client}, tokens=True, boxes=boxes)
            trace = await run_rollout(env, task_of(env, "cache-key"), services)
        finally:
            await client.close()
            await env.end()
            await boxes.close()
    assert trace.error is None, trace.error
    sent = ["".join(str(m.get("content") or "") for m in body["messages"]) for body in server.bodies]
    samples = trace.samples()
    seen = sorted(
        (turn, "".join(map(chr, s.ids[:begin])), "".join(map(chr, s.ids[begin:end])))
        for s in samples
        for begin, end, turn in s.spans
    )
    assert seen == [(i, sent[i], turn.reply.text) for i, turn in enumerate(trace.turns)]
    assert 1 < len(samples) < len(sent) == 11
