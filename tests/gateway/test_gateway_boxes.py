"""Programs in a box that has no network reach the gateway there, and nothing else."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from external import TASK, Model

from envkit import Environment, Limits, Rollout, Scripted, Services, Task, run_rollout
from envkit.sandbox import Backend, SandboxSpec
from envkit.sandbox.base import ExecLimits
from envkit.sandbox.pool import Boxes

BACKENDS = {
    "slot": ("envkit.sandbox.slot.backend", "SlotBackend"),
    "docker": ("envkit.sandbox.docker", "DockerBackend"),
}
SPEC = SandboxSpec(network="loopback", limits=ExecLimits(wall=60, cpu=60))

AGENT = """
import json, os, sys, urllib.error, urllib.request

def ask(path, body, **headers):
    head = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(path, json.dumps(body).encode(), head)
    with urllib.request.urlopen(request) as response:
        return json.load(response)

E = os.environ
messages = [{"role": "user", "content": sys.argv[1]}]
try:
    for _ in range(3):
        reply = ask(E["OPENAI_BASE_URL"] + "/chat/completions", {"model": E["OPENAI_MODEL"], "messages": messages},
                    Authorization="Bearer " + E["OPENAI_API_KEY"])["choices"][0]["message"]
        messages += [reply, {"role": "user", "content": "go on"}]
    said = ask(E["ANTHROPIC_BASE_URL"] + "/v1/messages", {"max_tokens": 9, "messages": messages},
               **{"x-api-key": E["ANTHROPIC_API_KEY"]})
    print(said["content"][0]["text"])
except urllib.error.HTTPError as error:
    print(json.load(error)["error"]["code"])
    sys.exit(1)
"""


class InABox(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        box = rollout.sandbox
        async with rollout.serve() as gateway:
            await box.write("agent.py", AGENT.encode())
            ended = await box.exec(["python3", "agent.py", rollout.task.prompt], env=gateway.env())
            rollout.info.update(code=ended.code, said=ended.stdout.decode().strip(), wrote=ended.stderr.decode())
        gone = await box.exec(["python3", "agent.py", "more"], env=gateway.env())
        rollout.info["after"] = gone.stderr.decode().strip().splitlines()[-1]


@pytest.fixture(params=BACKENDS)
async def boxes(request: pytest.FixtureRequest) -> AsyncIterator[Boxes]:
    module, kind = BACKENDS[request.param]
    backend: Backend = getattr(importlib.import_module(module), kind)()
    if isinstance(why := await backend.available(), str):
        await backend.close()
        pytest.skip(f"{request.param}: {why}")
    pool = Boxes(backend)
    yield pool
    await pool.close()


async def test_a_program_in_a_box_without_a_network_is_served_there(boxes: Boxes) -> None:
    models = Services({"policy": Model("a", "b", "c", "d")}, boxes=boxes)
    trace = await run_rollout(InABox([TASK], sandbox=SPEC), TASK, models)
    assert trace.error is None, trace.error
    assert (trace.info["code"], trace.info["said"], trace.info["wrote"]) == (0, "d", "")
    assert "Connection refused" in trace.info["after"]
    assert [turn.parent for turn in trace.turns] == [None, 0, 1, 2]


async def test_a_limit_ends_the_program_in_its_box_and_is_the_episodes_end(boxes: Boxes) -> None:
    models = Services({"policy": Scripted(["a", "b"])}, boxes=boxes)
    trace = await run_rollout(InABox([TASK], sandbox=SPEC, limits=Limits(max_turns=2)), TASK, models)
    assert (trace.outcome, trace.stop, len(trace.turns)) == ("truncated", "max_turns", 2)
    assert (trace.info["code"], trace.info["said"]) == (1, "max_turns")


async def test_a_box_without_even_a_loopback_is_a_usage_error_that_says_what_to_declare(boxes: Boxes) -> None:
    models = Services({"policy": Model()}, boxes=boxes)
    trace = await run_rollout(InABox([TASK], sandbox=SandboxSpec()), TASK, models)
    assert trace.error is not None
    assert trace.error.kind == "usage"
    assert "SandboxSpec(network='loopback')" in trace.error.message


async def test_a_program_on_this_machine_needs_no_box_where_it_says_so(tmp_path: Any) -> None:
    import asyncio
    import os

    class OnThisMachine(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            async with rollout.serve(inside=False) as gateway:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", AGENT, "go", env={**os.environ, **gateway.env()}, stdout=-1
                )
                rollout.info["said"] = (await process.communicate())[0].decode().strip()

    trace = await run_rollout(OnThisMachine([TASK], sandbox=SandboxSpec()), TASK, Model("a", "b", "c", json.dumps(4)))
    assert trace.error is None
    assert trace.info == {"said": "4"}
