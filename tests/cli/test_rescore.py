"""`envkit rescore`: the same record, scored by the environment as it is now."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cli.conftest import Command, data
from server import Server

ENVIRONMENT = """
from envkit import Judge, SingleTurnEnv, Task

def right(rollout):
    return float({test})

def best(traces):
    return [trace.rewards["right"] / 2 for trace in traces]

def environment(judged: bool = False):
    tasks = [Task(id=str(i), prompt=f"{{i}}?", answer=str(i)) for i in range(4)]
    judge = Judge("{{reply}}", float, role="judge")
    return SingleTurnEnv(tasks, rewards=[right, judge] if judged else [right], group_rewards=[best])
"""


def write(test: str) -> None:
    """The environment with this test as its reward, to be imported as a new process would."""
    for name in [name for name in sys.modules if name.startswith("_envkit_")]:
        del sys.modules[name]
    Path("numbers.py").write_text(ENVIRONMENT.format(test=test))


def test_a_changed_reward_gives_a_layer(envkit: Command) -> None:
    write("rollout.reply == rollout.task.answer")
    data(envkit("eval", "./numbers.py", "-e", "oracle", "-k", "2", "--out", "run", "--json"))
    before = Path("run/rollouts.jsonl").read_bytes()
    write("int(rollout.reply) % 2 == 0")
    said = data(envkit("rescore", "run", "--layer", "even", "--json"))
    assert (said["layer"], said["rescored"], said["changed"]) == ("even", 8, 4)
    assert (said["before"]["mean"], said["after"]["mean"]) == (1.5, 0.75), "group rewards are made again too"
    assert Path("run/rollouts.jsonl").read_bytes() == before
    assert data(envkit("show", "run", "--json"))["mean"] == 1.5
    assert data(envkit("show", "run", "--layer", "even", "--json"))["mean"] == 0.75
    assert data(envkit("rescore", "run", "--layer", "even", "--json"))["after"]["mean"] == 0.75


def test_nothing_changes_where_the_environment_is_the_same(envkit: Command) -> None:
    write("rollout.reply == rollout.task.answer")
    data(envkit("eval", "./numbers.py", "-e", "oracle", "--out", "run", "--json"))
    again = envkit("rescore", "run")
    assert again.exit_code == 0
    assert "4 rollouts scored again, 0 have another reward" in again.stdout


def test_a_judge_is_asked_again_and_the_policy_is_not(envkit: Command) -> None:
    write("True")
    with Server(lambda messages: "0.5") as first, Server(lambda messages: "0.25") as second:
        judge = f"judge={first.url}"
        options = ["-a", "judged=true", "--role", judge, "--out", "run", "--json"]
        assert data(envkit("eval", "./numbers.py", "-e", "oracle", *options))["mean"] == 1.5
        assert data(envkit("rescore", "run", "--role", f"judge={second.url}", "--json"))["after"]["mean"] == 1.25
        assert (first.answered, second.answered) == (4, 4)
        assert data(envkit("rescore", "run", "--json"))["after"]["mean"] == 1.5, "the role is known from the run"


def test_scorings_that_fail_are_counted_and_exit_1(envkit: Command) -> None:
    write("True")
    data(envkit("eval", "./numbers.py", "-e", "oracle", "--out", "run", "--json"))
    write("1 / (rollout.task.id != '2')")
    ended = envkit("rescore", "run", "--json")
    assert ended.exit_code == 1
    said = json.loads(ended.stdout)
    assert (said["rescored"], said["failed"], said["after"]["failed"]) == (4, 1, 1)
    assert "1 could not be scored: envkit show run --layer rescore --failed" in ended.stderr


PICTURES = """
from envkit import Image, Judge, Message, SingleTurnEnv, Task

def look(rollout):
    (picture,) = rollout.task.messages()[0].images
    return (picture, *rollout.messages[0].images)

def environment():
    tasks = [Task(id="t", prompt=(Message.user((Image.of(b"cat"),)),), answer="a cat")]
    return SingleTurnEnv(tasks, rewards=[Judge(look, float)])
"""


def test_a_judge_that_sees_pictures_sees_them_again(envkit: Command) -> None:
    Path("pictures.py").write_text(PICTURES)
    with Server(lambda messages: str(len(messages[-1]["content"]) / 4)) as server:
        judge = ["--role", f"judge={server.url}", "--json"]
        assert data(envkit("eval", "./pictures.py", "-e", "oracle", "--out", "run", *judge))["mean"] == 0.5
        assert data(envkit("rescore", "run", *judge))["after"]["mean"] == 0.5
    assert server.bodies[0]["messages"] == server.bodies[1]["messages"]


def test_what_cannot_be_scored_again_is_said(envkit: Command) -> None:
    write("True")
    data(envkit("eval", "./numbers.py", "-e", "oracle", "-k", "1", "--out", "run", "--json"))
    manifest = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({**manifest, "options": {**manifest["options"], "args": {"judged": 1}}}))
    refused = envkit("rescore", "run")
    assert refused.exit_code == 2
    assert "--role judge=URL" in refused.stderr
    assert envkit("rescore", "run", "--layer", "group").exit_code == 2
