"""bugfix: solutions are paid and nothing else is, whatever an agent leaves in its box; histories are shortened."""

import json
from dataclasses import replace
from typing import Any

import pytest
from environments.cuts import cut_everywhere
from environments.replays import rollouts

from envkit import Limits, Message, Scripted, Services, run_rollout
from envkit.clients.scripted import Oracle, call
from envkit.packages.check import check
from envkit.packages.find import find
from envkit.sandbox.pool import Boxes
from envkit.types import Usage

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
        assert "failed" in trace.scores["repaired"].reason


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
}


@pytest.mark.parametrize("name", list(ATTACKS))
async def test_what_an_agent_plants_is_not_paid(name: str) -> None:
    assert (await left("ledger-rounding", ATTACKS[name])).reward == 0.0


async def test_a_repair_is_paid_with_all_that_beside_it() -> None:
    planted = [ATTACKS[name] for name in ("conftest", "sitecustomize", "edited tests", "early reward", "fake pytest")]
    trace = await left("ledger-rounding", *planted, solution("ledger-rounding"), "rm -f ledger/pytest.py")
    assert trace.reward == 1.0, trace.scores
    assert {path.split("/")[0] for path in trace.info["changed"]} == {"ledger"}


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
