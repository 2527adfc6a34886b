"""Agent programs that others wrote, in a box with no network but the gateway: each call of theirs is a turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from foreign.programs import codex, mini_swe_agent, run_codex, run_mini
from sandbox.backends import usable

from envkit import Limits, Message, Rollout, Services, run_rollout
from envkit.clients.endpoint import Endpoint
from envkit.clients.http import HTTPClient
from envkit.packages.find import find
from envkit.sandbox import ExecLimits
from envkit.sandbox.base import GiB
from envkit.sandbox.pool import Boxes
from server import Server

pytestmark = pytest.mark.slow

Start = Callable[[str, Mapping[str, str]], tuple[Sequence[str], dict[str, str]]]
ROOMY = ExecLimits(wall=240, cpu=240, memory=3 * GiB, pids=256, disk=2 * GiB, files=100_000, output=1 << 22)
TASK = "dependency-order"


def bugfix(program: bytes, start: Start, turns: int) -> tuple[Any, Any]:
    """The environment with a program of others in the agent's part, and its hardest task."""
    env = find("bugfix").load(network="loopback")
    env.limits = Limits(max_turns=turns, run=300)

    async def work(rollout: Rollout[Any]) -> None:
        box = rollout.sandbox
        await box.write("/home/agent/.keep", b"")
        await box.upload(program, "/agent")
        async with rollout.serve() as gateway:
            argv, environ = start(str(rollout.task.prompt), gateway.env())
            ended = await box.exec(argv, env=environ)
            said = (ended.stdout + ended.stderr)[-2000:].decode(errors="replace")
            rollout.info["ended"] = [ended.code, ended.reason, said]

    env.work = work
    [task] = [task for task in env.tasks if task.id == TASK]
    folders = (*task.sandbox.folders, "/agent", "/home/agent")
    return env, task.model_copy(
        update={"sandbox": task.sandbox.model_copy(update={"limits": ROOMY, "folders": folders})}
    )


def solution() -> str:
    env = find("bugfix").load()
    [task] = [task for task in env.tasks if task.id == TASK]
    return json.loads(env.oracle(task, [Message.user("?")]).tool_calls[0].arguments)["command"]


def says(tool: str, argument: str, last: str | None) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """A model that repairs the repository by one command; then it gives `last` as one, or says that it is done."""
    repair = solution()

    def reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
        made = sum(message["role"] == "assistant" for message in messages)
        if made and last is None:
            return {"content": "It is repaired."}
        function = {"name": tool, "arguments": json.dumps({argument: last if made else repair})}
        call = {"id": f"call_{made}", "type": "function", "function": function}
        return {"content": f"Step {made}.", "tool_calls": [call]}

    return reply


PROGRAMS: dict[str, tuple[Callable[[], bytes], Start, tuple[str, str, str | None]]] = {
    "mini-swe-agent": (mini_swe_agent, run_mini, ("bash", "command", "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")),
    "codex": (codex, run_codex, ("exec_command", "cmd", None)),
}


async def solve(name: str, backend: str, *, turns: int = 20) -> Any:
    program, start, model = PROGRAMS[name]
    env, task = bugfix(program(), start, turns)
    here = await usable(backend)
    boxes = Boxes(here)
    try:
        with Server(says(*model)) as server:
            client = HTTPClient(Endpoint(url=server.url, model="served"))
            trace = await run_rollout(env, task, Services({"policy": client}, tokens=True, boxes=boxes))
            await client.close()
            assert server.answered == len(trace.turns)
            return trace
    finally:
        await boxes.close()
        await here.close()


@pytest.mark.parametrize(("name", "backend"), [("mini-swe-agent", "slot"), ("codex", "docker"), ("codex", "slot")])
async def test_a_program_of_others_solves_a_bugfix_task_and_each_call_is_a_turn(name: str, backend: str) -> None:
    trace = await solve(name, backend)
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
    assert "The build order is wrong, or never comes" in text[: text.index(first)]
    assert text.endswith(second)


async def test_a_limit_ends_a_program_and_what_it_did_is_scored() -> None:
    trace = await solve("codex", "slot", turns=1)
    assert trace.error is None, trace.error
    assert (trace.outcome, trace.stop, trace.reward) == ("truncated", "max_turns", 1.0)
    assert len(trace.turns) == 1
