"""Agent programs that others wrote, in a box with no network but the gateway: each call of theirs is a turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from foreign.programs import codex, mini_swe_agent, run_codex, run_mini
from sandbox.backends import usable

from envkit import Environment, Limits, Rollout, Services, Task, run_rollout
from envkit.clients.endpoint import Endpoint
from envkit.clients.http import HTTPClient
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.sandbox.base import GiB
from envkit.sandbox.pool import Boxes
from server import Server

pytestmark = pytest.mark.slow

Start = Callable[[str, Mapping[str, str]], tuple[Sequence[str], dict[str, str]]]
ROOMY = ExecLimits(wall=240, cpu=240, memory=3 * GiB, pids=256, disk=2 * GiB, files=100_000, output=1 << 22)
BUGGY = "def middle(a, b, c):\n    return max(min(a, b), min(a, c))\n"
FIXED = "def middle(a, b, c):\n    return sorted([a, b, c])[1]\n"
FIX = f"cat > middle.py <<'END'\n{FIXED}END\npython3 -c 'import middle; print(middle.middle(1, 3, 2))'"


class Repair(Environment[Task]):
    """A program repairs a file in the box; what it left there is what counts."""

    program: bytes
    start: Start

    async def run(self, rollout: Rollout[Task]) -> None:
        box = rollout.sandbox

        async def keep() -> None:
            rollout.info["left"] = (await box.read("middle.py")).decode()

        rollout.at_end(keep)
        await box.write("middle.py", BUGGY.encode())
        await box.write("/home/agent/.keep", b"")
        await box.upload(self.program, "/agent")
        async with rollout.serve() as gateway:
            argv, env = self.start(str(rollout.task.prompt), gateway.env())
            ended = await box.exec(argv, env=env)
            rollout.info["ended"] = [
                ended.code,
                ended.reason,
                (ended.stdout + ended.stderr)[-2000:].decode(errors="replace"),
            ]


def repaired(rollout: Rollout[Task]) -> float:
    return float(rollout.info["left"] == FIXED)


def says(tool: str, argument: str, last: str | None) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """A model that repairs the file by one command; then it gives `last` as a command, or says that it is done."""

    def reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
        made = sum(message["role"] == "assistant" for message in messages)
        if made and last is None:
            return {"content": "It is repaired."}
        function = {"name": tool, "arguments": json.dumps({argument: FIX if not made else last})}
        call = {"id": f"call_{made}", "type": "function", "function": function}
        return {"content": f"Step {made}.", "tool_calls": [call]}

    return reply


PROGRAMS: dict[str, tuple[Callable[[], bytes], Start, tuple[str, str, str | None]]] = {
    "mini-swe-agent": (mini_swe_agent, run_mini, ("bash", "command", "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")),
    "codex": (codex, run_codex, ("exec_command", "cmd", None)),
}


async def repair(name: str, backend: str, *, turns: int = 20, tokens: bool = True) -> Any:
    program, start, model = PROGRAMS[name]
    env = Repair(
        [Task(id="middle", prompt="middle(1, 3, 2) is to be 2. Repair middle.py.")],
        rewards=[repaired],
        limits=Limits(max_turns=turns, run=300),
        sandbox=SandboxSpec(network="loopback", limits=ROOMY, folders=("/agent", "/home/agent")),
    )
    env.program, env.start = program(), start
    here = await usable(backend)
    boxes = Boxes(here)
    try:
        with Server(says(*model)) as server:
            client = HTTPClient(Endpoint(url=server.url, model="served"))
            services = Services({"policy": client}, tokens=tokens, boxes=boxes)
            trace = await run_rollout(env, next(iter(env.tasks)), services)
            await client.close()
            assert server.answered == len(trace.turns)
            return trace
    finally:
        await boxes.close()
        await here.close()


@pytest.mark.parametrize("backend", ["slot", "docker"])
@pytest.mark.parametrize("name", list(PROGRAMS))
async def test_a_program_of_others_repairs_a_file_and_each_call_is_a_turn(name: str, backend: str) -> None:
    trace = await repair(name, backend)
    assert trace.error is None, trace.error
    assert (trace.outcome, trace.reward) == ("completed", 1.0), trace.info["ended"]
    assert trace.info["ended"][:2] == [0, "exit"], trace.info["ended"]
    assert len(trace.turns) == 2
    assert [turn.parent for turn in trace.turns] == [None, 0]
    assert {turn.model for turn in trace.turns} == {"served"}
    [sample] = trace.samples()
    assert sum(sample.mask) == sum(len(turn.reply.text) for turn in trace.turns)
    text = "".join(map(chr, sample.ids))
    first, second = (turn.reply.text for turn in trace.turns)
    assert "middle(1, 3, 2) is to be 2" in text[: text.index(first)]
    assert text.endswith(second)


@pytest.mark.parametrize("name", list(PROGRAMS))
async def test_a_limit_ends_a_program_and_what_it_did_is_scored(name: str) -> None:
    trace = await repair(name, "slot", turns=1)
    assert trace.error is None, trace.error
    assert (trace.outcome, trace.stop, trace.reward) == ("truncated", "max_turns", 1.0)
    assert len(trace.turns) == 1
