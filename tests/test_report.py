"""The report: what counts, and when there is no number to quote."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import rows as material_rows

from envkit.report import Report, RolloutRow, latest

binary = st.sampled_from([0.0, 1.0])
anything = st.one_of(st.none(), st.floats(-5, 5), binary)


def row(task: str, sample: int = 0, reward: float | None = 1.0, **more: Any) -> RolloutRow:
    fields: dict[str, Any] = {"attempt": 0, "outcome": "completed", "stop": "done", **more}
    return RolloutRow(task_id=task, task_hash=task, sample=sample, reward=reward, **fields)


def failed(task: str, sample: int = 0, kind: str = "infra", **more: Any) -> RolloutRow:
    return row(task, sample, None, outcome="failed", stop="error", error_kind=kind, **more)


def report(*rows: RolloutRow, k: int = 1, **more: Any) -> Report:
    return Report.of(rows, env="e", model="m", k=k, **more)


def test_the_highest_attempt_counts() -> None:
    rows = [failed("a"), row("a", reward=0.5, attempt=2), row("a", reward=1.0, attempt=1)]
    assert [r.reward for r in latest(rows)] == [0.5]
    assert report(*rows).mean == 0.5


@given(st.lists(st.integers(0, 3), max_size=8), st.randoms())
def test_the_highest_attempt_counts_in_any_order(attempts: list[int], random: Any) -> None:
    rows = [row("a", sample, float(attempt), attempt=attempt) for sample in (0, 1) for attempt in {*attempts}]
    random.shuffle(rows)
    assert [r.attempt for r in latest(rows)] == ([max(attempts)] * 2 if attempts else [])


def test_failures_and_undecided_ones_are_counted_apart_and_are_no_zeros() -> None:
    found = report(row("a"), row("b", reward=0.0), row("c", reward=None), failed("d", kind="env"))
    assert (found.mean, found.mean_failed_as_zero) == (0.5, pytest.approx(1 / 3))
    assert (found.scored, found.unscored, found.failed, found.rollouts) == (2, 1, 1, 4)
    assert found.failed_by_kind == {"env": 1}
    assert ("failed as 0", "0.3333") in found.lines()
    assert ("failed", "1, 25.0% (env 1)") in found.lines()


def test_undecided_is_what_a_reward_said_unscored_also_what_none_was_asked_of() -> None:
    found = report(row("a", reward=None, rewards={"correct": None}), row("b", reward=None))
    assert (found.unscored, found.undecided) == (2, 1)


def test_there_is_no_mean_over_nothing() -> None:
    found = report(failed("a"), row("b", reward=None))
    assert (found.mean, found.stderr, found.ci95, found.headline, found.mean_failed_as_zero) == (None,) * 5
    assert found.refused == "no rollout was scored"
    assert "none" in str(found)
    assert report().mean is None


def test_no_headline_where_k_is_unequal() -> None:
    found = report(row("a"), row("a", 1), row("b"), k=2)
    assert (found.headline, found.mean) == (None, 1.0)
    assert found.refused == "1 of 2 tasks do not have 2 rollouts; resume the run"


def test_no_headline_for_a_part_of_a_run() -> None:
    found = Report.of([row("a")], env="e", model="m", k=1, stopped="Ctrl-C")
    assert (found.headline, found.mean) == (None, 1.0)
    assert found.refused == "the run did not come to its end (Ctrl-C); resume it"
    short = Report.of([row("a")], env="e", model="m", k=1, n_tasks=3)
    assert (short.headline, short.n_tasks) == (None, 3)
    assert short.refused == "2 of 3 tasks do not have 1 rollouts; resume the run"


def test_no_headline_where_more_than_two_in_a_hundred_failed_for_infrastructure() -> None:
    fine = [row(str(n)) for n in range(98)]
    assert report(*fine, failed("x"), failed("y")).headline == 1.0
    assert report(*fine, failed("x"), failed("y"), failed("z")).headline is None
    assert report(*fine, *(failed(str(n), kind="env") for n in range(100, 110))).headline == 1.0


def test_truncation_answers_retries_tokens_cost_and_time_are_accounted_for() -> None:
    found = report(
        row(
            "a", outcome="truncated", stop="length", reason="no_box", retries=2, prompt_tokens=5, cost=0.5, started=10.0
        ),
        row("b", completion_tokens=7, cost=0.25, started=12.0, seconds=3.0, metrics={"m": 1.0}),
    )
    assert (found.truncated, found.truncated_by, found.no_answer, found.retried) == (1, {"length": 1}, 1, 1)
    assert (found.tokens, found.cost, found.seconds) == ({"prompt": 5, "completion": 7}, 0.75, 5.0)
    assert found.metrics == {"m": 1.0}
    assert report(row("a", cost=0.5), row("b")).cost is None


def test_a_judge_that_is_down_costs_the_headline() -> None:
    unjudged = [row(f"u{n}", reward=None, rewards={"judge": None}, error_kind="model") for n in range(3)]
    found = report(*unjudged, *(row(str(n)) for n in range(97)))
    assert (found.mean, found.headline, found.unscored, found.failed) == (1.0, None, 3, 0)
    assert found.refused == "3 of 100 rollouts are unscored because a judge failed; ask it again with `envkit rescore`"
    assert report(*unjudged[:2], *(row(str(n)) for n in range(98))).headline == 1.0
    assert report(*unjudged[:2], failed("x"), *(row(str(n)) for n in range(97))).headline is None
    assert str(report(*unjudged).refused).startswith("no rollout was scored: a judge failed; ask it again")


@pytest.mark.parametrize(
    "reason", ["empty", "no_box", "unclosed_think", "no_hashes", "no_code", "no program in the reply"]
)
def test_every_verifiers_word_for_a_reply_without_an_answer_is_counted(reason: str) -> None:
    assert report(row("a", reward=0.0, reason=reason), row("b", reason="different")).no_answer == 1


def test_pass_at_k_and_majority_are_there_where_k_is() -> None:
    rows = [row("a", s, float(s < 1), answer=str(min(s, 1))) for s in range(4)]
    found = report(*rows, k=4)
    assert found.pass_at == {1: 0.25, 2: 0.5, 4: 1.0}
    assert found.pass_hat == {1: 0.25, 2: 0.0, 3: 0.0, 4: 0.0}
    assert found.majority_at_k == 0.0
    assert report(row("a")).majority_at_k is None


def test_pass_hat_is_given_at_1_2_3_and_4_and_then_at_powers_of_two() -> None:
    found = report(*(row(task, s, float(s < n)) for task, n in (("a", 12), ("b", 11)) for s in range(12)), k=12)
    assert list(found.pass_hat) == [1, 2, 3, 4, 8, 12]
    assert list(found.left_out) == [1, 2, 3, 4, 8, 12]
    assert found.pass_hat[3] == pytest.approx((1 + 165 / 220) / 2)
    assert [what for what, _ in found.lines() if what.startswith("pass")] == [
        *(f"pass@{n}" for n in (2, 4, 8, 12)),
        *(f"pass^{n}" for n in (1, 2, 3, 4, 8, 12)),
    ]
    assert not [what for what, _ in report(row("a")).lines() if what.startswith("pass")]


def test_tasks_too_short_for_pass_at_k_are_left_out_and_counted() -> None:
    found = report(*(row("a", s) for s in range(3)), row("b", 0, 0.0), row("b", 1, None), failed("b", 2), k=3)
    assert (found.pass_at, found.pass_hat) == ({1: 0.5, 2: 1.0, 3: 1.0}, {1: 0.5, 2: 1.0, 3: 1.0})
    assert found.left_out == {1: 0, 2: 1, 3: 1}
    assert ("pass@3", "1.0000  (without 1 of 2 tasks: fewer than 3 scored)") in found.lines()
    assert report(row("a"), failed("a", 1), k=2).pass_at == {1: 1.0}


def test_a_majority_is_of_those_that_answered_and_a_task_without_answers_is_not_left_out() -> None:
    silent = [row("a", s, 0.0, reason="no_box") for s in range(3)]
    voting = [row("b", 0, 1.0, answer="5"), row("b", 1, 0.0, answer="4"), row("b", 2, 0.0)]
    assert report(*silent, *voting, k=3).majority_at_k == 0.25  # of the tie in b a half, of a nothing
    assert report(*silent, k=3).majority_at_k is None
    assert report(*voting[:2], failed("b", 2), k=3).majority_at_k is None


def test_a_group_too_small_for_its_group_reward_is_counted() -> None:
    whole = [row("a", s, rewards={"own": 1.0, "shorter": 0.5}) for s in range(2)]
    small = [row("b", 0, rewards={"own": 1.0}), failed("b", 1)]
    names = ["shorter"]
    assert report(*whole, *small, k=2, group_rewards=names).skipped_groups == 1
    assert report(*whole, k=2, group_rewards=names).skipped_groups == 0
    assert report(*small, k=2, group_rewards=names).skipped_groups == 1, "also where no group has them"
    assert report(row("c", reward=None), k=1, group_rewards=names).skipped_groups == 1
    assert report(row("a"), k=1).skipped_groups == 0


@pytest.mark.parametrize(
    ("env", "k", "mean", "majority", "at_k"),
    [("gpqa", 4, 50.0, 50.0, 75.0), ("hendrycks_math", 3, 71.43, 76.19, 85.71)],
)
def test_a_published_table_is_reproduced(env: str, k: int, mean: float, majority: float, at_k: float) -> None:
    rows = [
        row(r["task_id"], r["sample"], r["expected_score"], answer=r["meta"]["predicted_answer"])
        for r in material_rows("replay/aggregation_fixture__nemo_skills.jsonl")
        if r["env"] == f"agg/{env}"
    ]
    found = report(*rows, k=k)
    assert (found.mean, found.majority_at_k) == (
        pytest.approx(mean / 100, abs=5e-5),
        pytest.approx(majority / 100, abs=5e-5),
    )
    assert found.pass_at[k] == pytest.approx(at_k / 100, abs=5e-5)


@given(st.integers(1, 5).flatmap(lambda k: st.lists(st.lists(binary, min_size=k, max_size=k), min_size=1, max_size=6)))
def test_pass_at_1_is_the_mean_and_pass_at_k_the_share_of_tasks_solved(tasks: list[list[float]]) -> None:
    k = len(tasks[0])
    found = report(*(row(str(t), s, r) for t, task in enumerate(tasks) for s, r in enumerate(task)), k=k)
    assert found.mean is not None
    assert found.pass_at[1] == pytest.approx(found.mean)
    assert found.pass_hat[1] == pytest.approx(found.mean)
    assert found.pass_at[k] == pytest.approx(statistics.fmean(max(task) for task in tasks))
    assert found.pass_hat[k] == pytest.approx(statistics.fmean(min(task) for task in tasks))


@given(st.lists(st.lists(st.tuples(st.sampled_from("xyz"), binary), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_majority_is_the_mean_over_all_ways_to_break_ties(tasks: list[list[tuple[str, float]]]) -> None:
    rows = [row(str(t), s, r, answer=a) for t, task in enumerate(tasks) for s, (a, r) in enumerate(task)]
    picked: list[list[float]] = []
    for task in tasks:
        votes = Counter(answer for answer, _ in task)
        winners = [answer for answer in votes if votes[answer] == max(votes.values())]
        picked.append([statistics.fmean(r for a, r in task if a == winner) for winner in winners])
    expected = statistics.fmean(map(statistics.fmean, itertools.product(*picked)))
    assert report(*rows, k=4).majority_at_k == pytest.approx(expected)


@given(st.lists(st.lists(anything, max_size=4), max_size=6), st.randoms())
def test_no_number_is_ever_nan_and_none_depends_on_the_order(tasks: list[list[float | None]], random: Any) -> None:
    rows = [row(str(t), s, r, metrics={"m": r}) for t, task in enumerate(tasks) for s, r in enumerate(task)]
    found = report(*rows, k=4)
    random.shuffle(rows)
    again = report(*rows, k=4)
    assert (again.mean, again.stderr, again.ci95) == (found.mean, found.stderr, found.ci95)
    text = json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert Report.model_validate_json(text) == found
    assert found.scored + found.unscored + found.failed == found.rollouts
    assert all(math.isfinite(value) for value in found.pass_at.values())


def test_one_task_has_no_standard_error() -> None:
    found = report(row("a"), row("a", 1, 0.0), k=2)
    assert (found.mean, found.stderr, found.ci95, found.headline) == (0.5, None, None, 0.5)


def test_attempts_of_a_resumed_run_do_not_count_twice_but_were_paid_for() -> None:
    first = failed("a", prompt_tokens=5, cost=0.5)
    found = report(first, row("a", attempt=1, prompt_tokens=7, cost=0.25))
    assert (found.rollouts, found.failed, found.tokens) == (1, 0, {"prompt": 12, "completion": 0})
    assert found.cost == 0.75


def test_what_a_model_wrote_cannot_steer_the_terminal() -> None:
    from rich.console import Console

    found = Report.of([row("a", metrics={"[red]\x1b[31m": 1.0})], env="[bold]\x1b]0;x\x07", model="m", k=1)
    console = Console(width=100, force_terminal=False)
    with console.capture() as shown:
        console.print(found.table())
    assert "\x1b" not in shown.get()
    assert "[red]" in shown.get()
    assert "\x1b" not in str(found)
    assert "[bold]" in shown.get()
