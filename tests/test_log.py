"""`logs/run.log`: says what went wrong in a run, and harms nobody who reads it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from envkit import ModelError, Rollout, Scripted, SingleTurnEnv, Task, evaluate
from envkit.events import Event, RolloutEnded, RolloutStarted, SandboxClosed
from envkit.log import Log
from envkit.runs import RunDirectory
from envkit.trace import Trace


def slow(rollout: Rollout[Task]) -> float:
    time.sleep(0.08)
    return 1.0


def fine(rollout: Rollout[Task]) -> float:
    return 1.0


def broken(rollout: Rollout[Task]) -> float:
    raise ValueError("\x1b[2Jno\nsuch thing")


def said(path: Path) -> list[str]:
    lines = (path / "logs" / "run.log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
    return [line.partition(" ")[2] for line in lines]


async def test_it_tells_what_failed_and_what_held_the_loop_and_the_listener_hears_all(tmp_path: Path) -> None:
    heard: list[Event] = []
    env = SingleTurnEnv([Task(id="a", prompt="?"), Task(id="b", prompt="?")], rewards=[slow, broken])
    await evaluate(env, Scripted(["x", "x"]), concurrency=1, out=tmp_path / "run", listener=heard.append)
    first, *between, last = said(tmp_path / "run")
    assert first.endswith("begins, with 0 rollouts finished before")
    assert last == "ends (finished), with 2 rollouts finished"
    for task in "ab":
        assert any(re.fullmatch(rf"{task} #0: slow held the event loop for \d+\.\d\d s", line) for line in between)
        assert f"{task} #0 failed (env, score: broken): ValueError: no such thing" in between
    assert [type(event) for event in heard].count(RolloutStarted) == 2


async def test_it_tells_why_a_run_stopped_and_what_it_went_on_from(tmp_path: Path) -> None:
    from envkit.evaluate import Resume

    def env() -> Any:
        return SingleTurnEnv([Task(id=f"t{n}", prompt="?") for n in range(30)], rewards=[fine])

    class Refuses(Scripted):
        async def complete(self, request: Any) -> Any:
            raise ModelError("no key", status=401)

    await evaluate(env(), Refuses([]), concurrency=1, out=tmp_path / "run")
    assert said(tmp_path / "run")[-1].startswith("ends (endpoint: 20 rollouts in a row failed alike: no key")
    await evaluate(env(), Scripted(["x"] * 30), concurrency=1, out=tmp_path / "run", resume=Resume(accept_changes=True))
    assert "begins, with 20 rollouts finished before" in "\n".join(said(tmp_path / "run"))
    assert said(tmp_path / "run")[-1] == "ends (finished), with 30 rollouts finished"


async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def started(progress: Any) -> None:
        (run / "logs").write_text("in the way")

    env = SingleTurnEnv([Task(id="a", prompt="?")], rewards=[broken])
    report = await evaluate(env, Scripted(["x"]), out=run, started=started)
    assert report.failed == 1
    assert len(RunDirectory(run).rows()) == 1


def test_a_box_that_may_be_left_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = Log(tmp_path / "logs" / "run.log", None)
    trace = Trace.begin(Task(id="a", prompt="?"), sample=3)
    log.hear(SandboxClosed(trace, grading=False, seconds=1.0))
    log.hear(RolloutEnded(trace))
    log.hear(SandboxClosed(trace, grading=True, seconds=1.0, error="the box is still there"))
    assert said(tmp_path) == ["a #3: the box is still there"]
