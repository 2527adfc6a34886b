"""`envkit show`: the report, the rollouts, one of them in full; `envkit diff`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Command, data
from envkit.runs import RunWriter
from envkit.trace import ErrorRecord, Score


def test_a_runs_report_and_rollouts(envkit: Command, run: Path) -> None:
    shown = envkit("show", run)
    assert shown.exit_code == 0
    for text in ("mean", "0.5000", "failed", "good", "bad", "broken", "differs from 5", "the drawer is stuck"):
        assert text in shown.stdout
    assert "\x1b" not in shown.stdout


@pytest.mark.parametrize(
    ("options", "tasks"),
    [([], ["good", "bad", "broken"]), (["--failed"], ["broken"]), (["--wrong"], ["bad"]), (["-n", "1"], ["good"])],
)
def test_which_rollouts_are_listed(envkit: Command, run: Path, options: list[str], tasks: list[str]) -> None:
    said = data(envkit("show", run, "--json", *options))
    assert [row["task_id"] for row in said["rollouts"]] == tasks
    assert (said["mean"], said["failed"], said["status"]) == (0.5, 1, "finished")


def test_one_rollout_in_full(envkit: Command, run: Path) -> None:
    shown = envkit("show", run, "bad").stdout
    for text in ("Use the tool.", "2+3? (bad)", 'add({"a":2,"b":3})', "It said 5.", "[b]6", "gold answer", "reward 0"):
        assert text in shown
    assert "right: 0  answer [b]6; differs from 5" in shown
    assert "length (metric): 4" in shown
    assert data(envkit("show", run, "bad", "--json"))["task"]["answer"] == "5"


def test_a_failure_in_full_has_its_traceback(envkit: Command, run: Path) -> None:
    shown = envkit("show", run, "broken").stdout
    for text in ("env error in run: LookupError", "Traceback", "the drawer is stuck"):
        assert text in shown
    assert "\x1b" not in shown


def test_one_rollout_as_a_layer_has_it(envkit: Command, run: Path) -> None:
    with RunWriter.reopen(run) as directory:
        (row,) = [row for row in directory.rows() if row.task_id == "bad"]
        (trace,) = directory.traces([row])
        error = ErrorRecord(kind="env", type="KeyError", message="KeyError: 'gold'", phase="score: right")
        score = Score(value=0.0, reason="stricter now")
        directory.layer(
            "strict",
            [
                trace.model_copy(
                    update={"outcome": "failed", "reward": None, "error": error, "scores": {"right": score}}
                )
            ],
        )
    shown = envkit("show", run, "bad", "--layer", "strict").stdout
    for text in ("attempt 0: failed", "stricter now", "env error in score: right", "reward none"):
        assert text in shown
    said = data(envkit("show", run, "bad", "--layer", "strict", "--json"))
    assert (said["outcome"], said["error"]["type"], said["reward"]) == ("failed", "KeyError", None)
    assert "differs from 5" in envkit("show", run, "bad").stdout


def test_what_is_not_there_is_said(envkit: Command, run: Path) -> None:
    for args, told in (
        (["godo"], "Did you mean 'good'"),
        (["good", "--sample", "4"], "has the samples 0; not 4"),
        (["--layer", "again"], "no layer 'again'"),
    ):
        refused = envkit("show", run, *args)
        assert refused.exit_code == 2
        assert told in refused.stderr


def test_a_run_against_itself(envkit: Command, run: Path) -> None:
    said = data(envkit("diff", run, run, "--json"))
    assert (said["n"], said["diff"], said["a_only"], said["b_only"]) == (2, 0.0, [], [])
    assert "paired tasks" in envkit("diff", run, run).stdout
