"""The lifecycle: whose fault a failure is, what is scored, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from envkit import (
    Environment,
    InfraError,
    Limits,
    ModelError,
    Rollout,
    Score,
    Scripted,
    Services,
    SingleTurnEnv,
    Task,
    Trace,
    run_group,
    run_rollout,
    score,
    weighted,
)
from envkit.clients.base import Client, Completion, Request
from envkit.events import Event, LoopHeld

TASK = Task(id="t", prompt="2+3?", answer="5")


def correct(rollout: Rollout[Task]) -> float:
    return float(rollout.reply == rollout.task.answer)


class Run(Environment[Task]):
    """An environment whose `run` is this function."""

    def __init__(self, episode: Callable[[Rollout[Task]], Any], **more: Any) -> None:
        super().__init__([TASK], **more)
        self.episode = episode

    async def run(self, rollout: Rollout[Task]) -> None:
        await self.episode(rollout)


async def test_a_plain_rollout() -> None:
    trace = await run_rollout(SingleTurnEnv([TASK], rewards=[correct]), TASK, Scripted(["5"]))
    assert (trace.outcome, trace.stop, trace.reward, trace.rewards) == ("completed", "done", 1.0, {"correct": 1.0})
    assert trace.agent_rewards == {"policy": 1.0}


@pytest.mark.parametrize(
    ("error", "kind", "name"),
    [
        (ValueError("bad row"), "env", "ValueError"),
        (TimeoutError("the author's own"), "env", "TimeoutError"),
        (ModelError("502", status=502, retryable=True), "model", "ModelError"),
        (InfraError("no box"), "infra", "InfraError"),
        (ExceptionGroup("both", [ValueError("x"), ModelError("401")]), "model", "ModelError"),
    ],
)
async def test_whose_fault_it_was(error: Exception, kind: str, name: str) -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        rollout.at_end(lambda: rollout.info.update(ended=True))
        raise error

    trace = await run_rollout(Run(episode, rewards=[correct]), TASK, Scripted([]))
    assert (trace.outcome, trace.stop, trace.reward, trace.rewards) == ("failed", "error", None, {})
    assert trace.error is not None
    assert (trace.error.kind, trace.error.type, trace.error.phase) == (kind, name, "run")
    assert (trace.error.traceback is not None) == (kind == "env")
    assert trace.info == {"ended": True}


STRAY = [asyncio.CancelledError(), SystemExit(2)]


@pytest.mark.parametrize("stray", STRAY, ids=["cancelled", "exit"])
async def test_a_stray_cancellation_or_exit_of_the_environment_is_its_own_error(stray: BaseException) -> None:
    async def fine(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate()

    async def strays(rollout: Rollout[Task]) -> None:
        raise stray

    async def at_end(rollout: Rollout[Task]) -> None:
        rollout.at_end(lambda: strays(rollout))

    def of_group(_: Sequence[Trace]) -> list[float]:
        raise stray

    for phase, env in (
        ("run", Run(strays, rewards=[correct])),
        ("finish", Run(at_end, rewards=[correct])),
        ("score: strays", Run(fine, rewards=[strays, correct])),
        ("score: of_group", Run(fine, rewards=[correct], group_rewards=[of_group])),
    ):
        for trace in await run_group(env, TASK, Scripted(["5", "5"]), 2):
            assert trace.error is not None
            assert (trace.outcome, trace.error.kind, trace.error.phase) == ("failed", "env", phase)
            assert trace.error.type == type(stray).__name__
            assert trace.rewards == ({"correct": 1.0} if phase.startswith("score") else {})


@pytest.mark.parametrize("stray", STRAY, ids=["cancelled", "exit"])
async def test_a_startup_that_strays_is_the_environments_error(stray: BaseException) -> None:
    class Starts(SingleTurnEnv[Task]):
        async def startup(self) -> None:
            raise stray

    trace = await run_rollout(Starts([TASK]), TASK, Scripted([]))
    assert trace.error is not None
    assert (trace.error.kind, trace.error.type, trace.error.phase) == ("env", type(stray).__name__, "setup")


async def test_every_at_end_runs_and_the_first_error_is_kept() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        rollout.at_end(lambda: rollout.info["missing"])
        rollout.at_end(lambda: rollout.info.update(seen=(1, 2)))
        rollout.at_end(lambda: 1 / 0)

    trace = await run_rollout(Run(episode), TASK, Scripted([]))
    assert trace.error is not None
    assert (trace.error.type, trace.error.phase, trace.stop) == ("KeyError", "finish", "error")
    assert trace.info == {"seen": [1, 2]}


async def test_only_our_deadline_is_a_truncation() -> None:
    async def hangs(rollout: Rollout[Task]) -> None:
        await asyncio.sleep(60)

    async def inner(rollout: Rollout[Task]) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    limits = Limits(run=0.1)
    cut = await run_rollout(Run(hangs, limits=limits, rewards=[correct]), TASK, Scripted([]))
    assert (cut.outcome, cut.stop, cut.reward) == ("truncated", "timeout", 0.0)
    own = await run_rollout(Run(inner, limits=limits), TASK, Scripted([]))
    assert own.error is not None
    assert own.error.kind == "env"


async def test_an_environment_cannot_swallow_its_own_end() -> None:
    async def stubborn(rollout: Rollout[Task]) -> None:
        while True:
            try:
                await rollout.chat.generate()
            except Exception:  # noqa: BLE001 - what an author might write
                continue

    trace = await run_rollout(Run(stubborn, limits=Limits(max_turns=3)), TASK, Scripted(["x"] * 9))
    assert (trace.outcome, trace.stop) == ("truncated", "max_turns")


async def test_every_reward_runs_and_partial_values_are_kept() -> None:
    def broken(_: Rollout[Task]) -> float:
        raise KeyError("gold")

    def one(_: Rollout[Task]) -> float:
        return 1.0

    env = SingleTurnEnv([TASK], rewards=[broken, one], metrics=[weighted(one, 0, name="length")])
    trace = await run_rollout(env, TASK, Scripted(["5"]))
    assert (trace.outcome, trace.reward, trace.rewards) == ("failed", None, {"one": 1.0})
    assert trace.metrics == {"length": 1.0}
    assert trace.error is not None
    assert (trace.error.kind, trace.error.phase) == ("env", "score: broken")
    assert "KeyError: 'gold'" in str(trace.error.traceback)


async def test_a_metric_that_raises_or_hangs_fails_nothing() -> None:
    def broken(_: Rollout[Task]) -> float:
        raise KeyError("column")

    async def hangs(_: Rollout[Task]) -> float:
        await asyncio.sleep(60)
        return 1.0

    env = SingleTurnEnv([TASK], rewards=[correct], metrics=[broken, hangs], limits=Limits(score=0.05))
    trace = await run_rollout(env, TASK, Scripted(["5"]))
    assert (trace.outcome, trace.reward, trace.error) == ("completed", 1.0, None)
    assert trace.metrics == {"broken": None, "hangs": None}
    assert str(trace.scores["broken"].reason).startswith("KeyError: 'column' (test_lifecycle.py:")
    assert trace.scores["hangs"].reason == "score did not finish in 0.05 s"


async def test_an_undecided_reward_leaves_the_rollout_unscored() -> None:
    def undecided(_: Rollout[Task]) -> Score:
        return Score(value=None, reason="parse")

    def one(_: Rollout[Task]) -> float:
        return 1.0

    trace = await run_rollout(SingleTurnEnv([TASK], rewards=[one, undecided]), TASK, Scripted(["5"]))
    assert (trace.outcome, trace.reward, trace.rewards) == ("completed", None, {"one": 1.0, "undecided": None})
    trace = await run_rollout(SingleTurnEnv([TASK], rewards=[one], metrics=[undecided]), TASK, Scripted(["5"]))
    assert (trace.reward, trace.metrics) == (1.0, {"undecided": None})


async def test_no_rewards_is_no_score() -> None:
    trace = await run_rollout(SingleTurnEnv([TASK]), TASK, Scripted(["5"]))
    assert (trace.outcome, trace.reward) == ("completed", None)


async def test_metrics_alone_are_no_score_either() -> None:
    trace = await run_rollout(SingleTurnEnv([TASK], metrics=[correct]), TASK, Scripted(["5"]))
    assert (trace.reward, trace.metrics) == (None, {"correct": 1.0})


async def test_each_agent_has_its_own_reward() -> None:
    def zero_sum(_: Rollout[Task]) -> dict[str, float]:
        return {"policy": 1.0, "opponent": -1.0}

    def polite(_: Rollout[Task]) -> float:
        return 0.5

    trace = await run_rollout(SingleTurnEnv([TASK], rewards=[weighted(zero_sum, 2.0), polite]), TASK, Scripted(["5"]))
    assert trace.reward == 2.5
    assert trace.agent_rewards == {"policy": 2.5, "opponent": -2.0}


async def test_a_rewards_deadline_is_the_environments_error() -> None:
    async def hangs(_: Rollout[Task]) -> float:
        await asyncio.sleep(60)
        return 1.0

    env = SingleTurnEnv([TASK], rewards=[hangs], limits=Limits(score=0.05))
    trace = await run_rollout(env, TASK, Scripted(["5"]))
    assert trace.error is not None
    assert (trace.outcome, trace.error.kind, trace.error.message) == ("failed", "env", "score did not finish in 0.05 s")


async def test_the_policy_cannot_be_asked_in_scoring() -> None:
    async def asks(rollout: Rollout[Task]) -> float:
        await rollout.chat.generate("are you sure?")
        return 1.0

    trace = await run_rollout(SingleTurnEnv([TASK], rewards=[asks]), TASK, Scripted(["5", "yes"]))
    assert trace.error is not None
    assert "a reward cannot ask the policy" in trace.error.message
    assert len(trace.turns) == 1


async def test_scoring_again_from_the_record_gives_the_same() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        reply = await rollout.chat.generate()
        rollout.info["parts"] = (reply.text, 1)

    def of_info(rollout: Rollout[Task]) -> Score:
        assert rollout.info["parts"] == ["5", 1]
        return Score(value=correct(rollout), answer=rollout.reply, reason="equal", span=(0, 1))

    env = Run(episode, rewards=[of_info])
    trace = await run_rollout(env, TASK, Scripted(["5"]))
    again = Trace.model_validate_json(trace.to_json()).with_task(Task.model_validate(TASK.model_dump()))
    await score(env, again, Services({}))
    assert (again.reward, again.scores) == (1.0, trace.scores)


async def test_a_rollout_whose_scoring_failed_can_be_scored_again() -> None:
    env = SingleTurnEnv([TASK], rewards=[correct], limits=Limits(score=0.5))
    trace = await run_rollout(
        SingleTurnEnv([TASK], rewards=[weighted(lambda _: 1 / 0, 1, name="r")]), TASK, Scripted(["5"])
    )
    assert trace.outcome == "failed"
    await score(env, trace, Services({}))
    assert (trace.outcome, trace.reward, trace.error) == ("completed", 1.0, None)


@pytest.mark.parametrize(
    ("info", "said"), [({"x": object()}, "rollout.info must be JSON"), ({"x": "y" * 1_000_001}, "at most 1,000,000")]
)
async def test_info_is_json_of_at_most_a_megabyte(info: dict[str, Any], said: str) -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        rollout.info.update(info)

    trace = await run_rollout(Run(episode), TASK, Scripted([]))
    assert trace.error is not None
    assert (trace.error.kind, trace.error.phase, trace.stop) == ("env", "finish", "error")
    await score(SingleTurnEnv([TASK], rewards=[correct]), trace, Services({}))
    assert (trace.outcome, trace.reward) == ("failed", None)
    assert said in trace.error.message
    assert Trace.from_json(trace.to_json()).info == {}, "and the record can be written"


async def test_a_sync_reward_that_holds_the_loop_is_named() -> None:
    import time

    def slow(_: Rollout[Task]) -> float:
        time.sleep(0.06)
        return 1.0

    events: list[Event] = []
    services = Services({"policy": Scripted(["5"])}, listener=events.append)
    await run_rollout(SingleTurnEnv([TASK], rewards=[slow]), TASK, services)
    assert [event.function for event in events if isinstance(event, LoopHeld)] == ["slow"]


class Hangs(Client):
    """Never answers, and knows whether it was let go."""

    def __init__(self) -> None:
        self.waiting = 0

    async def complete(self, request: Request) -> Completion:
        self.waiting += 1
        try:
            await asyncio.sleep(3600)
        finally:
            self.waiting -= 1
        raise AssertionError


async def test_a_cancelled_rollout_leaves_nothing_behind() -> None:
    client = Hangs()
    before = asyncio.all_tasks()
    running = asyncio.create_task(run_group(SingleTurnEnv([TASK], rewards=[correct]), TASK, client, 8))
    while client.waiting < 8:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert client.waiting == 0
    assert asyncio.all_tasks() == before


async def test_cancelled_at_any_await_it_ends_cancelled() -> None:
    def add(a: int) -> int:
        return a

    async def episode(rollout: Rollout[Task]) -> None:
        rollout.at_end(lambda: asyncio.sleep(0))
        await asyncio.gather(rollout.chat.run_tools([add]), rollout.open("b").generate("x"))

    from envkit.clients.scripted import call

    async def late(_: Rollout[Task]) -> float:
        await asyncio.sleep(0)
        return 1.0

    before = asyncio.all_tasks()
    steps = 0
    while True:
        model = Scripted(lambda messages: call("add", a=1) if messages[-1].content == TASK.prompt else "ok")
        running = asyncio.create_task(run_rollout(Run(episode, rewards=[late]), TASK, model))
        for _ in range(steps):
            await asyncio.sleep(0)
        if running.done():
            break
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert asyncio.all_tasks() == before
        steps += 1
    assert steps > 3
    assert running.result().reward == 1.0


async def test_group_rewards_see_the_members_that_have_a_reward() -> None:
    def above_mean(traces: Sequence[Trace]) -> list[float]:
        mean = sum(float(t.reward or 0) for t in traces) / len(traces)
        return [float(t.reward or 0) - mean for t in traces]

    replies = iter(["5", "4", ModelError("401")])

    def answer(_: object) -> Any:
        return next(replies)

    env = SingleTurnEnv([TASK], rewards=[correct], group_rewards=[weighted(above_mean, 2.0)])
    traces = await run_group(env, TASK, Scripted(answer), 3)
    assert [t.rewards for t in traces] == [
        {"correct": 1.0, "above_mean": 0.5},
        {"correct": 0.0, "above_mean": -0.5},
        {},
    ]
    assert [t.reward for t in traces] == [2.0, -1.0, None]
    alone = await run_group(env, TASK, Scripted(["5"]), 1)
    assert alone[0].rewards == {"correct": 1.0}


async def test_group_rewards_alone_leave_nothing_that_is_not_compared() -> None:
    seen: list[float | None] = []

    def rank(traces: Sequence[Trace]) -> list[float]:
        seen.extend(trace.reward for trace in traces)
        return [float(trace.sample) for trace in traces]

    env = SingleTurnEnv([TASK], metrics=[correct], group_rewards=[rank])
    traces = await run_group(env, TASK, Scripted(["5"] * 3), 3)
    assert (seen, [t.reward for t in traces]) == ([None] * 3, [0.0, 1.0, 2.0])
    alone = await run_group(env, TASK, Scripted(["5"]), 1)
    assert (alone[0].outcome, alone[0].reward, alone[0].agent_rewards) == ("completed", None, {})
    env = SingleTurnEnv([TASK], rewards=[weighted(correct, 0.0)], group_rewards=[rank])
    assert [t.reward for t in await run_group(env, TASK, Scripted(["5"]), 1)] == [None]


async def test_a_group_reward_has_a_deadline() -> None:
    async def hangs(_: Sequence[Trace]) -> list[float]:
        await asyncio.sleep(60)
        return []

    env = SingleTurnEnv([TASK], rewards=[correct], group_rewards=[hangs])
    services = Services({"policy": Scripted(["5"] * 2)}, limits=Limits(score=0.05))
    for trace in await run_group(env, TASK, services, 2):
        assert trace.error is not None
        assert (trace.outcome, trace.error.message) == ("failed", "score did not finish in 0.05 s")
        assert trace.rewards == {"correct": 1.0}


async def test_each_sample_has_its_own_seed_and_the_same_one_every_time() -> None:
    env = SingleTurnEnv([TASK], rewards=[correct])
    first = await run_group(env, TASK, Services({"policy": Scripted(["5"] * 4)}, seed=1), 4)
    again = await run_group(env, TASK, Services({"policy": Scripted(["5"] * 4)}, seed=1), 4)
    other = await run_group(env, TASK, Services({"policy": Scripted(["5"] * 4)}, seed=2), 4)
    assert len({t.seed for t in first}) == 4
    assert [t.seed for t in first] == [t.seed for t in again] != [t.seed for t in other]


async def test_startup_runs_once_and_its_failure_is_every_rollouts() -> None:
    class Starts(SingleTurnEnv[Task]):
        def __init__(self, *, fails: bool) -> None:
            super().__init__([TASK], rewards=[correct])
            self.fails, self.starts = fails, 0

        async def startup(self) -> None:
            self.starts += 1
            await asyncio.sleep(0)
            if self.fails:
                raise OSError("no database")

    fine, broken = Starts(fails=False), Starts(fails=True)
    assert [t.reward for t in await run_group(fine, TASK, Scripted(["5"] * 3), 3)] == [1.0] * 3
    traces = await run_group(broken, TASK, Scripted(["5"] * 3), 3)
    assert {(t.error.kind, t.error.phase) for t in traces if t.error} == {("env", "setup")}
    assert (fine.starts, broken.starts) == (1, 1)
