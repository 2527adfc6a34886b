"""The harbor environment: its tasks, episodes that are cut or graded badly, and other people's folders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from adapters.harbor_folders import CALM, REWARDED, harbor_task, terminal_bench_task
from environments.cuts import cut_everywhere
from environments.replays import rollouts

from envkit.clients.base import Client
from envkit.clients.scripted import Nop, Oracle, Scripted
from envkit.environment import Environment
from envkit.errors import UsageError
from envkit.lifecycle import run_rollout, score
from envkit.packages.check import check
from envkit.packages.find import find
from envkit.rollout import POLICY, Services
from envkit.sandbox.docker import DockerBackend
from envkit.sandbox.pool import Boxes
from envkit.trace import Trace
from envkit.types import Message, ToolCall

pytestmark = pytest.mark.usefixtures("isolated")


def harbor(path: Path | None = None, **args: Any) -> Environment[Any]:
    return find("harbor").load(**({} if path is None else {"path": str(path)}), **args)


def call(command: str) -> Message:
    arguments = orjson.dumps({"command": command}).decode()
    return Message.assistant("", (ToolCall(id="call_0", name="shell", arguments=arguments),))


async def one(path: Path, client: Client, **args: Any) -> Trace:
    [trace] = (await rollouts(harbor(path, **args), client)).values()
    return trace


async def test_every_gate_is_passed() -> None:
    gates = await check(find("harbor"), n=1)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_the_solutions_that_come_with_it_are_right_and_doing_nothing_is_not() -> None:
    env = harbor()
    right = await rollouts(env, Oracle(env))
    assert {name: trace.reward for name, trace in right.items()} == {
        "count-lines": 1.0,
        "merge-inventory": 1.0,
        "envkit/slug-library": 1.0,
    }
    assert {trace.reward for trace in (await rollouts(harbor(metrics="rows"), Nop())).values()} == {0.0}


async def test_an_episode_that_is_cut_anywhere_is_graded() -> None:
    env = harbor()
    tasks = [task for task in env.tasks if task.id == "merge-inventory"]
    [cuts] = (await cut_everywhere(env, tasks, Oracle(env))).values()
    assert [(trace.outcome, trace.reward) for trace in cuts] == [
        ("truncated", 0.0),
        ("truncated", 1.0),
        ("completed", 1.0),
    ]


async def test_an_agent_whose_time_is_over_is_judged_by_what_it_did(tmp_path: Path) -> None:
    toml = CALM + "[agent]\ntimeout_sec = 3\n"
    test = "[ -e early ] && [ ! -e late ]; echo $((1 - $?)) >/logs/verifier/reward.txt\n"
    trace = await one(
        harbor_task(tmp_path / "it", toml, test=test), Scripted([call("touch early; sleep 60; touch late")])
    )
    assert (trace.outcome, trace.stop, trace.reward) == ("truncated", "timeout", 1.0)


async def test_a_verifier_without_a_reward_fails_the_rollout_and_is_never_a_zero(tmp_path: Path) -> None:
    trace = await one(harbor_task(tmp_path / "it", test="exit 0\n"), Nop())
    assert (trace.outcome, trace.reward) == ("failed", None)
    assert trace.error is not None
    assert (trace.error.kind, trace.error.phase, trace.error.retryable) == ("infra", "finish", True)
    assert "wrote no reward" in trace.error.message


async def test_several_rewards_are_one_that_counts_and_metrics(tmp_path: Path) -> None:
    test = 'echo \'{"speed": 0.5, "style": 0.25}\' >/logs/verifier/reward.json\n'
    folder = harbor_task(tmp_path / "it", test=test)
    trace = await one(folder, Nop(), reward="speed", metrics="style,absent")
    assert (trace.reward, trace.metrics) == (0.5, {"style": 0.25, "absent": None})
    unnamed = await one(folder, Nop())
    assert unnamed.error is not None
    assert "gives speed, style, and no 'reward': choose with -a reward=NAME" in unnamed.error.message
    only = harbor_task(tmp_path / "only", test="echo '{\"speed\": 0.5}' >/logs/verifier/reward.json\n")
    assert (await one(only, Nop())).reward == 0.5


async def test_a_record_is_scored_again_without_a_box_and_without_the_folder(tmp_path: Path) -> None:
    folder = harbor_task(tmp_path / "it", test="echo why\n" + REWARDED)
    trace = await one(folder, Nop())
    read = Trace.model_validate_json(trace.to_json()).with_task(trace.task)
    (folder / "tests" / "test.sh").unlink()
    env = harbor(harbor_task(tmp_path / "other"))
    again = await score(env, read, Services({}))
    assert (again.reward, again.scores["reward"].reason) == (1.0, "why")


async def test_the_agent_has_a_shell_an_editor_and_a_reader(tmp_path: Path) -> None:
    def use(name: str, **arguments: str) -> Message:
        return Message.assistant("", (ToolCall(id="c", name=name, arguments=orjson.dumps(arguments).decode()),))

    steps = [
        use("edit", path="out", old="", new="a word\n"),
        use("edit", path="out", old="word", new="text"),
        use("read_file", path="out"),
        use("shell", command="cat out"),
        Message.assistant("Done."),
    ]
    test = '[ "$(cat out)" = "a text" ]; echo $((1 - $?)) >/logs/verifier/reward.txt\n'
    trace = await one(harbor_task(tmp_path / "it", test=test), Scripted(steps))
    assert trace.reward == 1.0
    assert {name: used.errors for name, used in trace.tools.items()} == {"edit": 0, "read_file": 0, "shell": 0}


def test_what_is_not_supported_is_refused_or_left_out_and_recorded(tmp_path: Path) -> None:
    harbor_task(tmp_path / "a")
    harbor_task(tmp_path / "b", "[environment]\ngpus = 1\n")
    with pytest.raises(UsageError, match=r"environment\.gpus is not supported"):
        harbor(tmp_path)
    env = harbor(tmp_path, unsupported="skip")
    assert [task.id for task in env.tasks] == ["a"]
    assert list(env.tasks.about["skipped"]) == ["b"]
    with pytest.raises(UsageError, match=r"None of the 1 tasks is supported.*environment\.gpus"):
        harbor(tmp_path / "b", unsupported="skip")


async def test_the_open_network_of_a_task_needs_a_backend_that_has_it_or_another_word(tmp_path: Path) -> None:
    folder = terminal_bench_task(tmp_path / "it")
    env = harbor(folder)
    assert env.sandbox is not None
    assert env.sandbox.network == "open"
    calm = harbor(folder, network="none")
    assert calm.sandbox is not None
    assert calm.sandbox.network == "none"
    [trace] = (await rollouts(calm, Oracle(calm))).values()
    assert trace.reward == 1.0


@pytest.fixture
async def docker() -> AsyncIterator[Boxes]:
    backend = DockerBackend()
    why = await backend.available()
    if not isinstance(why, str):
        boxes = Boxes(backend)
        yield boxes
        await boxes.close()
    await backend.close()
    if isinstance(why, str):
        pytest.skip(f"the docker backend is not available: {why}")


async def test_a_task_with_an_image_runs_in_docker_and_says_so_in_a_slot(docker: Boxes, tmp_path: Path) -> None:
    toml = CALM + 'docker_image = "envkit-sandbox"\nworkdir = "/srv/it"\n'
    test = '[ "$(cat /opt/out)" = "x" ]; echo $((1 - $?)) >/logs/verifier/reward.txt\n'
    files = {"environment/data": "x", "solution/solve.sh": "#!/bin/sh\ncp data /opt/out\n"}
    env = harbor(harbor_task(tmp_path / "it", toml, test=test, **files))
    [task] = env.tasks
    try:
        solved = await run_rollout(env, task, Services({POLICY: Oracle(env)}, boxes=docker))
        idle = await run_rollout(env, task, Services({POLICY: Nop()}, boxes=docker))
    finally:
        await env.end()
    assert (solved.reward, idle.reward) == (1.0, 0.0)
    [refused] = (await rollouts(env, Nop())).values()
    assert refused.error is not None
    assert refused.error.kind == "usage"
    assert "use the docker backend" in refused.error.message
