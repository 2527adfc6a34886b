"""Judges: recorded apart, asked anew where they cannot be read, and never a zero when they fail."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any

import pytest

from envkit import Judge, Limits, Message, ModelError, Rollout, Scripted, Services, SingleTurnEnv, Task, run_rollout
from envkit.clients.base import Client, Completion, Request
from envkit.report import RolloutRow


def env(judge: Judge) -> SingleTurnEnv[Task]:
    made = SingleTurnEnv([Task(id="t", prompt="2+2?", answer="4")], rewards=[judge])
    made.roles = ("judge",)
    return made


async def run(judge: Judge, *replies: Any) -> Any:
    made = env(judge)
    return await run_rollout(
        made, next(iter(made.tasks)), {"policy": Scripted(["{answer} it is"]), "judge": Scripted(replies)}
    )


async def test_the_judges_number_is_the_reward_and_its_call_is_recorded_apart() -> None:
    trace = await run(Judge("{prompt}|{reply}|{answer}", float), "0.75")
    assert trace.reward == 0.75
    assert len(trace.turns) == 1
    assert trace.judging[0].prompt[0].content == "2+2?|{answer} it is|4"
    assert not trace.judging[0].trainable
    digest = hashlib.sha256(b"{prompt}|{reply}|{answer}").hexdigest()[:12]
    assert trace.scores["judge"].reason == f"judged (prompt {digest})", "the template's, the same for all rollouts"


async def test_a_prompt_that_is_a_function_is_known_by_its_source() -> None:
    def shout(rollout: Rollout[Task]) -> str:
        return rollout.reply.upper()

    judges = [Judge(shout, float), Judge(lambda rollout: rollout.reply, float), Judge(str, float), Judge(shout, float)]
    reasons = [(await run(judge, "1")).scores["judge"].reason for judge in judges]
    assert len(set(reasons)) == 3
    assert reasons[0] == reasons[3]


async def test_a_reply_that_cannot_be_read_is_asked_anew_then_masks() -> None:
    trace = await run(Judge("?", float, retries=1), "well", "0.5")
    assert trace.reward == 0.5
    assert len(trace.judging) == 2
    trace = await run(Judge("?", float, retries=1), "well", "maybe")
    assert (trace.reward, trace.outcome) == (None, "completed")
    assert "could not be read" in trace.scores["judge"].reason


async def test_each_call_of_a_rollout_sends_a_seed_of_its_own_and_the_same_one_every_time() -> None:
    class Seeds(Client):
        async def complete(self, request: Request) -> Completion:
            sent.append(request.sampling["seed"])
            return Completion(Message.assistant("well"))

    runs: list[list[int]] = []
    for _ in range(2):
        sent: list[int] = []
        made = env(Judge("?", float, retries=2))
        services = Services({"policy": Seeds(), "judge": Seeds()}, seed=7)
        trace = await run_rollout(made, next(iter(made.tasks)), services)
        assert sent[0] == trace.seed
        assert len(set(sent)) == len(sent) == 4
        runs.append(sent)
    assert runs[0] == runs[1]


async def test_a_failing_judge_masks_the_reward() -> None:
    trace = await run(Judge("?", float), ModelError("503"))
    assert (trace.reward, trace.outcome, trace.error) == (None, "completed", None)
    assert "judge failed: 503" in trace.scores["judge"].reason
    row = RolloutRow.of(trace)
    assert (row.outcome, row.error_kind, row.reason == row.error) == ("completed", "model", True)
    trace = await run(Judge("?", float, retries=0), "well")
    assert RolloutRow.of(trace).error_kind is None, "a reply that cannot be read is no failure"


async def test_a_judge_nobody_speaks_for_never_falls_back_to_the_policy() -> None:
    made = env(Judge("?", float))
    trace = await run_rollout(made, next(iter(made.tasks)), Scripted(["4", "1.0"]))
    assert trace.outcome == "failed"
    assert "no model is bound to role 'judge'" in trace.error.message


@pytest.mark.parametrize(
    "parse",
    [
        lambda text: {"good": 1.0}[text],
        lambda text: text.split(": ")[1],
        lambda text: re.search("[0-9]", text).group(),  # pyright: ignore[reportOptionalMemberAccess]
        lambda text: 1 / 0 if text != "good" else 1,
        lambda text: float("nan"),
        lambda text: None,
    ],
)
async def test_whatever_cannot_be_read_is_asked_anew_then_masks(parse: Any) -> None:
    trace = await run(Judge("?", parse, retries=1), "well", "maybe")
    assert (trace.reward, trace.outcome, len(trace.judging)) == (None, "completed", 2)
    assert "could not be read" in trace.scores["judge"].reason


class Slow(Scripted):
    """Answers the first call never, or after it has waited its turn for a while."""

    def __init__(self, *, queued: float | None = None) -> None:
        super().__init__(["0.5", "0.5", "0.5"])
        self.queued, self.asked = queued, 0

    async def complete(self, request: Request) -> Completion:
        self.asked += 1
        if self.queued is not None:
            assert request.deadline is not None
            with request.deadline.paused():
                await asyncio.sleep(self.queued)
        elif self.asked == 1:
            await asyncio.sleep(60)
        return await super().complete(request)


@pytest.mark.parametrize(
    ("judge", "limits"),
    [(Judge("?", float, seconds=0.1), Limits()), (Judge("?", float), Limits(score=0.6))],
)
async def test_a_judge_that_hangs_is_asked_anew(judge: Judge, limits: Limits) -> None:
    made = env(judge)
    made.limits = limits
    trace = await run_rollout(made, next(iter(made.tasks)), {"policy": Scripted(["4"]), "judge": Slow()})
    assert (trace.reward, trace.outcome) == (0.5, "completed")


async def test_a_judge_that_always_hangs_masks_the_reward() -> None:
    class Hangs(Scripted):
        async def complete(self, request: Request) -> Completion:
            await asyncio.sleep(60)
            raise AssertionError

    made = env(Judge("?", float))
    made.limits = Limits(score=0.5)
    trace = await run_rollout(made, next(iter(made.tasks)), {"policy": Scripted(["4"]), "judge": Hangs([])})
    assert (trace.reward, trace.outcome, trace.error) == (None, "completed", None)
    assert trace.scores["judge"].fault == "model"
    assert "judge did not answer in" in str(trace.scores["judge"].reason)


async def test_waiting_its_turn_costs_a_judge_no_time() -> None:
    made = env(Judge("?", float, seconds=0.2, retries=0))
    made.limits = Limits(score=0.3)
    models = {"policy": Scripted(["4"]), "judge": Slow(queued=0.6)}
    trace = await run_rollout(made, next(iter(made.tasks)), models)
    assert (trace.reward, trace.outcome) == (0.5, "completed")
