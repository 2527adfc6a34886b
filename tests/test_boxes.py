"""Rollouts with boxes: the agent's own, fresh ones to grade in, and that nothing of either outlives its rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from folders import Folders, Unclosable

from envkit import Environment, InfraError, Limits, Rollout, Score, Scripted, Services, Task, evaluate, run_rollout
from envkit.errors import UsageError
from envkit.events import Event, ExecEnded, RolloutEnded, SandboxClosed, SandboxStarted, Scored
from envkit.runs import RunDirectory
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.sandbox.pool import Boxes
from envkit.sandbox.unsafe import UnsafeBackend

SPEC = SandboxSpec()
TASK = Task(id="t", prompt="Print 42.", answer="42")
RIGHT = "print(6 * 7)"
Episode = Callable[[Rollout[Task]], Coroutine[Any, Any, object]]


class Run(Environment[Task]):
    """An environment whose `run` is this function."""

    def __init__(self, episode: Episode, **more: Any) -> None:
        super().__init__([TASK], **{"sandbox": SPEC, **more})
        self.episode = episode

    async def run(self, rollout: Rollout[Task]) -> None:
        await self.episode(rollout)


async def chats(rollout: Rollout[Task]) -> None:
    await rollout.chat.generate()


async def prints_42(rollout: Rollout[Task]) -> Score:
    async with rollout.fresh_sandbox() as box:
        result = await box.python(rollout.reply)
    return Score(value=float(result.stdout == b"42\n"), reason=result.reason)


async def test_the_agents_box_lasts_for_its_episode_and_is_gone_before_its_scoring() -> None:
    backend = Folders()
    boxes = Boxes(backend)

    async def episode(rollout: Rollout[Task]) -> None:
        async def keep() -> None:
            rollout.info["files"] = (await rollout.sandbox.exec(["ls"])).stdout.decode()

        rollout.at_end(keep)
        assert backend.started == 0  # until it is used
        await rollout.sandbox.write("notes", b"1")
        assert await rollout.sandbox.read("notes") == b"1"
        await chats(rollout)

    async def gone(rollout: Rollout[Task]) -> Score:
        assert backend.live == set()
        return await prints_42(rollout)

    trace = await run_rollout(Run(episode, rewards=[gone]), TASK, services(boxes, RIGHT))
    assert (trace.outcome, trace.reward, trace.info) == ("completed", 1.0, {"files": "notes\n"})
    assert (backend.started, backend.most, backend.left()) == (2, 1, [])
    await boxes.close()


async def test_what_the_agent_planted_is_not_where_it_is_graded() -> None:
    async def plants(rollout: Rollout[Task]) -> None:
        await rollout.sandbox.write("/work/conftest.py", b"planted")
        await chats(rollout)

    async def unspoilt(rollout: Rollout[Task]) -> float:
        async with rollout.fresh_sandbox() as one, rollout.fresh_sandbox() as other:
            await one.write("a", b"")
            return float((await other.exec(["ls"])).stdout == b"")

    async with asyncio.timeout(20):
        boxes = Boxes(Folders(), gradings=1)
        trace = await run_rollout(Run(plants, rewards=[unspoilt]), TASK, services(boxes, RIGHT))
        await boxes.close()
    assert trace.reward == 1.0


async def test_a_tasks_box_goes_before_the_environments() -> None:
    async def look(rollout: Rollout[Task]) -> None:
        rollout.info["own"] = (await rollout.sandbox.exec(["sh", "-c", "echo $A"])).stdout.decode().strip()
        async with rollout.fresh_sandbox() as box:
            rollout.info["fresh"] = (await box.exec(["sh", "-c", "echo $A"])).stdout.decode().strip()
        async with rollout.fresh_sandbox(SandboxSpec(env={"A": "third"})) as box:
            rollout.info["other"] = (await box.exec(["sh", "-c", "echo $A"])).stdout.decode().strip()

    env = Run(look, sandbox=SandboxSpec(env={"A": "first"}))
    boxes = Boxes(Folders())
    plain = await run_rollout(env, TASK, services(boxes))
    own = TASK.model_copy(update={"sandbox": SandboxSpec(env={"A": "second"})})
    special = await run_rollout(env, own, services(boxes))
    await boxes.close()
    assert plain.info == {"own": "first", "fresh": "first", "other": "third"}
    assert special.info == {"own": "second", "fresh": "second", "other": "third"}


def test_a_task_without_a_box_has_the_hash_that_it_had() -> None:
    assert Task(id="a", prompt="1+1?", answer=2).hash == "07ae37cfcb9df8f9"
    boxed = Task(id="a", prompt="1+1?", answer=2, sandbox=SPEC)
    assert boxed.hash != Task(id="a", prompt="1+1?", answer=2).hash
    assert Task.model_validate_json(boxed.model_dump_json()).hash == boxed.hash


async def test_a_reward_gets_no_agents_box_and_says_what_to_do() -> None:
    async def greedy(rollout: Rollout[Task]) -> float:
        await rollout.sandbox.exec(["true"])
        return 1.0

    boxes = Boxes(Folders())
    trace = await run_rollout(Run(chats, rewards=[greedy]), TASK, services(boxes, RIGHT))
    await boxes.close()
    assert trace.error is not None
    assert (trace.reward, trace.error.kind, trace.error.phase) == (None, "env", "score: greedy")
    assert "fresh_sandbox()" in trace.error.message


async def test_without_a_pool_or_a_declaration_the_failure_says_what_to_do() -> None:
    async def uses(rollout: Rollout[Task]) -> None:
        await rollout.sandbox.exec(["true"])

    without = await run_rollout(Run(uses), TASK, Scripted([]))
    assert without.error is not None
    assert (without.error.kind, "boxes=Boxes()" in without.error.message) == ("usage", True)
    undeclared = await run_rollout(Run(uses, sandbox=None), TASK, services(Boxes(Folders())))
    assert undeclared.error is not None
    assert (undeclared.error.kind, "sandbox=SandboxSpec()" in undeclared.error.message) == ("env", True)


@pytest.mark.parametrize("where", ["run", "score"])
async def test_a_sandbox_that_fails_is_a_failed_rollout_and_never_a_zero(where: str) -> None:
    backend = Folders()
    boxes = Boxes(backend)

    async def uses(rollout: Rollout[Task]) -> None:
        await chats(rollout)
        if where == "run":
            await rollout.sandbox.exec(["true"])

    backend.broken = [InfraError("the daemon is down")]
    trace = await run_rollout(Run(uses, rewards=[prints_42]), TASK, services(boxes, RIGHT))
    assert trace.error is not None
    assert (trace.outcome, trace.reward, trace.error.kind, trace.error.retryable) == ("failed", None, "infra", True)
    again = await run_rollout(Run(uses, rewards=[prints_42]), TASK, services(boxes, RIGHT))
    assert again.reward == 1.0
    await boxes.close()


async def test_the_end_of_a_boxs_lifetime_is_told() -> None:
    backend = Folders()
    boxes = Boxes(backend)

    async def outlives(rollout: Rollout[Task]) -> None:
        await rollout.sandbox.exec(["true"])
        while backend.live:
            await asyncio.sleep(0.05)
        await rollout.sandbox.exec(["true"])

    trace = await run_rollout(Run(outlives, sandbox=SandboxSpec(lifetime=0.5)), TASK, services(boxes))
    await boxes.close()
    assert trace.error is not None
    assert (trace.error.kind, trace.error.message) == ("infra", "The box is gone: its lifetime of 0.5 s is over.")


async def test_waiting_for_a_box_is_not_the_episodes_time() -> None:
    backend = Folders()
    boxes = Boxes(backend, agents=1)
    held = await boxes.take(SPEC, boxes.place(grading=False))

    async def uses(rollout: Rollout[Task]) -> None:
        rollout.info["said"] = (await rollout.sandbox.exec(["echo", "on"])).stdout.decode()

    limits = Limits(run=2.0)
    waiting = asyncio.create_task(run_rollout(Run(uses, limits=limits), TASK, services(boxes)))
    await asyncio.sleep(2.5)
    await boxes.give(held)
    trace = await waiting
    assert (trace.outcome, trace.info) == ("completed", {"said": "on\n"})

    async def sleeps(rollout: Rollout[Task]) -> None:
        await rollout.sandbox.exec(["sleep", "60"], limits=ExecLimits(wall=60))

    cut = await run_rollout(Run(sleeps, limits=limits), TASK, services(boxes))
    await boxes.close()
    assert (cut.outcome, cut.stop, backend.left()) == ("truncated", "timeout", [])


@pytest.mark.parametrize("moment", [0.02, 0.1, 0.3])
async def test_a_cancelled_rollout_leaves_no_box(moment: float) -> None:
    backend = Folders(starts_in=lambda: 0.1, closes_in=lambda: 0.1)
    boxes = Boxes(backend)

    async def uses(rollout: Rollout[Task]) -> None:
        async with rollout.fresh_sandbox() as fresh, asyncio.TaskGroup() as group:
            for box in (rollout.sandbox, rollout.sandbox, fresh):
                group.create_task(box.exec(["sleep", "60"], limits=ExecLimits(wall=60)))

    rollout = asyncio.create_task(run_rollout(Run(uses), TASK, services(boxes)))
    await asyncio.sleep(moment)
    rollout.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rollout
    await boxes.close()
    assert (backend.live, backend.left()) == (set(), [])


async def test_a_box_that_cannot_be_closed_is_an_event_beside_a_finished_score() -> None:
    events: list[Event] = []
    boxes = Boxes(Unclosable())

    async def uses(rollout: Rollout[Task]) -> None:
        await rollout.sandbox.exec(["true"])
        await chats(rollout)

    trace = await run_rollout(Run(uses, rewards=[prints_42]), TASK, services(boxes, RIGHT, events=events))
    await boxes.close()
    assert (trace.outcome, trace.reward, trace.error) == ("completed", 1.0, None)
    closed = [event for event in events if isinstance(event, SandboxClosed)]
    assert [event.error for event in closed] == ["A box could not be closed: the daemon went away"] * 2


async def test_events_tell_of_boxes_in_their_order() -> None:
    events: list[Event] = []
    boxes = Boxes(Folders())

    async def uses(rollout: Rollout[Task]) -> None:
        await chats(rollout)
        await rollout.sandbox.exec(["sh", "-c", "sleep 0.2; exit 3"])

    trace = await run_rollout(Run(uses, rewards=[prints_42]), TASK, services(boxes, RIGHT, events=events))
    await boxes.close()
    told = [event for event in events if isinstance(event, SandboxStarted | ExecEnded | SandboxClosed)]
    kinds = [(type(event), event.grading) for event in told]
    of_one = [SandboxStarted, ExecEnded, SandboxClosed]
    assert kinds == [*((kind, False) for kind in of_one), *((kind, True) for kind in of_one)]
    assert all(event.trace is trace for event in told)
    ran, closed = told[1], told[2]
    assert isinstance(ran, ExecEnded)
    assert isinstance(closed, SandboxClosed)
    assert (ran.reason, ran.seconds >= 0.2, closed.seconds >= ran.seconds) == ("exit", True, True)
    assert [type(event) for event in events[-2:]] == [Scored, RolloutEnded]


async def test_many_rollouts_in_few_places(tmp_path: Path) -> None:
    backend = Folders(starts_in=lambda: 0.01)

    async def uses(rollout: Rollout[Task]) -> None:
        await rollout.sandbox.write("notes", rollout.task.id.encode())
        await chats(rollout)
        rollout.info["notes"] = (await rollout.sandbox.read("notes")).decode()

    async def own_notes(rollout: Rollout[Task]) -> float:
        return float(rollout.info["notes"] == rollout.task.id)

    tasks = [Task(id=str(i), prompt="Print 42.") for i in range(20)]
    env = Run(uses, rewards=[prints_42, own_notes], sandbox=SandboxSpec(env={"A": "1"}))
    env.tasks = type(env.tasks)(tasks)
    boxes = Boxes(backend, agents=3, gradings=2)
    async with asyncio.timeout(60):
        model = Scripted(lambda _: RIGHT)
        report = await evaluate(env, model, sandbox=boxes, concurrency=20, out=tmp_path / "run")
    await boxes.close()
    assert (report.mean, report.scored, backend.most <= 5, backend.left()) == (2.0, 20, True, [])
    recorded = RunDirectory(tmp_path / "run").manifest.inputs["sandbox"]
    assert (recorded["backend"], recorded["spec"]["env"]) == ("unsafe", {"A": "1"})
    assert recorded["interpreter"].startswith("CPython 3.")


async def test_a_backend_that_cannot_be_used_ends_a_run_before_its_first_request(tmp_path: Path) -> None:
    class Absent(Folders):
        async def available(self) -> str:
            return "There is no kernel."

    asked: list[object] = []
    model = Scripted(lambda messages: asked.append(messages) or RIGHT)
    with pytest.raises(UsageError, match="There is no kernel"):
        await evaluate(Run(chats, rewards=[prints_42]), model, sandbox=Absent(), out=tmp_path / "run")
    assert asked == []
    assert not (tmp_path / "run").exists()
    unused = await evaluate(Run(chats, sandbox=None), model, sandbox=Absent())
    assert unused.failed == 0


async def test_another_backend_is_another_run(tmp_path: Path) -> None:
    from envkit.evaluate import Resume

    class Other(Folders):
        name = "other"

    env = Run(chats, rewards=[prints_42])
    model = Scripted(lambda _: RIGHT)
    await evaluate(env, model, sandbox=Folders(), out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"sandbox\.backend was unsafe, is other"):
        await evaluate(env, model, sandbox=Other(), out=tmp_path / "run", resume=Resume())


def test_a_chat_alone_loads_no_backend() -> None:
    import subprocess
    import sys

    program = (
        "import asyncio, sys\n"
        "from envkit import Scripted, SingleTurnEnv, Task, evaluate, run_rollout\n"
        "env = SingleTurnEnv([Task(id='a', prompt='x')])\n"
        "asyncio.run(run_rollout(env, next(iter(env.tasks)), Scripted(['y'])))\n"
        "assert not any(name in sys.modules for name in ('envkit.sandbox.pool', 'envkit.sandbox.lent')), 'pool'\n"
        "asyncio.run(evaluate(env, Scripted(['y'])))\n"
        "loaded = [n for n in sys.modules if n.startswith('envkit.sandbox.')]\n"
        "print(sorted(loaded))\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['envkit.sandbox.base', 'envkit.sandbox.pool']"


def services(boxes: Boxes, reply: str = "", *, events: list[Event] | None = None) -> Services:
    return Services({"policy": Scripted([reply])}, boxes=boxes, listener=None if events is None else events.append)


async def test_a_lent_box_says_whose_it_is() -> None:
    """Judges remember by it which interpreter ran a program."""
    pool = Boxes(UnsafeBackend(unsafe=True))

    async def episode(rollout: Rollout[Task]) -> None:
        async with rollout.fresh_sandbox() as box:
            rollout.info["backend"] = box.backend

    trace = await run_rollout(Run(episode), TASK, Services({"policy": Scripted([])}, boxes=pool))
    await pool.close()
    assert trace.info == {"backend": "unsafe"}
