"""`envkit eval` from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import SUMS, Envkit, add
from server import Fault, Server

REQUIRED = {
    "run", "env", "model", "n_tasks", "k", "mean", "stderr", "mean_failed_as_zero",
    "scored", "unscored", "failed", "truncated", "tokens",
}  # fmt: skip


def test_a_run_from_end_to_end(envkit: Envkit, server: Server) -> None:
    ended = envkit("eval", SUMS, "-e", server.url, "-k", "2", "-a", "n=6", "--json")
    assert ended.code == 0, ended.err
    report = ended.json
    assert report.keys() >= REQUIRED
    assert (report["env"], report["model"], report["n_tasks"], report["k"]) == ("sums", "model", 6, 2)
    assert report["mean"] == pytest.approx(4 / 6)
    assert (report["scored"], report["failed"], report["truncated"], report["unscored"]) == (12, 0, 0, 0)
    assert report["tokens"]
    assert server.answered == 12
    run = Path(report["run"])
    assert run.parent == Path("runs")
    assert "_sums_model_" in run.name
    assert len((envkit.cwd / run / "rollouts.jsonl").read_bytes().splitlines()) == 12
    for command in (f"envkit show {run}", f"envkit eval --resume {run}", "envkit diff"):
        assert command in ended.err


def test_without_json_nothing_is_on_stdout(envkit: Envkit, server: Server) -> None:
    ended = envkit("eval", SUMS, "-e", server.url, "-n", "1")
    assert (ended.code, ended.out) == (0, "")


def test_the_options_reach_the_endpoint(envkit: Envkit, server: Server) -> None:
    options = ["-s", "top_p=0.5", "-s", 'stop=["END"]', "--temperature", "0.7", "--max-tokens", "9", "--seed", "3"]
    ended = envkit("eval", SUMS, "-e", server.url, "-m", "other", "--ids", "2+2,1+1", *options)
    assert ended.code == 0, ended.err
    assert {body["messages"][-1]["content"] for body in server.bodies} == {"1+1?", "2+2?"}
    body = server.bodies[0]
    assert (body["model"], body["top_p"], body["temperature"], body["stop"]) == ("other", 0.5, 0.7, ["END"])
    assert 9 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert len({body["seed"] for body in server.bodies}) == 2


def test_a_config_file_and_the_command_line_over_it(envkit: Envkit, server: Server) -> None:
    (envkit.cwd / "run.toml").write_text(
        f'env = "{SUMS}"\nendpoint = "{server.url}"\nlimit = 3\nrollouts = 2\ntemperature = 0.1\nout = "mine"\n'
        "[args]\nn = 5\n[sampling]\ntop_p = 0.9\n"
    )
    ended = envkit("eval", "@run.toml", "-k", "1", "--temperature", "0.2", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["n_tasks"], ended.json["k"], ended.json["run"]) == (3, 1, "mine")
    assert (server.bodies[0]["temperature"], server.bodies[0]["top_p"]) == (0.2, 0.9)


def test_a_dry_run_asks_no_model(envkit: Envkit, server: Server) -> None:
    ended = envkit("eval", SUMS, "-e", server.url, "-n", "4", "-k", "3", "--temperature", "0.5", "--dry-run")
    assert ended.code == 0, ended.err
    for told in ("4 tasks", "12", "model at", "temperature=0.5 (command line)", "Say the sum.", "1+1?"):
        assert told in ended.out
    assert server.bodies == []
    assert not (envkit.cwd / "runs").exists()


def test_failures_of_some_are_exit_code_1(envkit: Envkit, serve: Callable[..., Server]) -> None:
    server = serve(add, faults=[Fault("400", share=0.5)])
    ended = envkit("eval", SUMS, "-e", server.url, "--json")
    assert ended.code == 1, ended.err
    report = ended.json
    assert report["failed"] + report["scored"] == 8
    assert 0 < report["failed"] < 8
    assert report["mean_failed_as_zero"] < report["mean"]


@pytest.mark.parametrize(("floor", "code"), [("0.5", 0), ("0.9", 3)])
def test_fail_under(envkit: Envkit, server: Server, floor: str, code: int) -> None:
    assert envkit("eval", SUMS, "-e", server.url, "--fail-under", floor).code == code


def test_fail_under_is_not_met_by_no_mean(envkit: Envkit, server: Server) -> None:
    broken = ("-a", "broken=run", "--ids", "2+2")
    assert envkit("eval", SUMS, "-e", server.url, *broken, "--fail-under", "0").code == 3


def test_what_a_model_says_steers_no_terminal(envkit: Envkit, serve: Callable[..., Server]) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\u202e[red]evil\x9b31m"
    server = serve(lambda _: evil, models=[f"m{evil}"])
    ended = envkit("eval", SUMS, "-e", server.url, "-n", "1", "--json")
    assert ended.code == 0, ended.err
    run = json.loads(ended.out)["run"]
    shown = envkit("show", run, "1+1")
    for text in (ended.out, ended.err, shown.out, shown.err):
        assert not set(text) & set("\x1b\x07\x9b\u202e")
    assert "[red]evil" in shown.out
    assert shown.code == 0


def test_resuming_a_finished_run_asks_nothing(envkit: Envkit, server: Server) -> None:
    first = envkit("eval", SUMS, "-e", server.url, "--out", "run", "--json")
    asked = server.answered
    again = envkit("eval", "--resume", "run", "--json")
    assert (again.code, server.answered) == (0, asked)
    assert again.json["mean"] == first.json["mean"]


def test_changed_inputs_are_refused_unless_accepted(envkit: Envkit, server: Server) -> None:
    envkit("eval", SUMS, "-e", server.url, "-n", "2", "--out", "run")
    refused = envkit("eval", "--resume", "run", "--temperature", "0.3", "-n", "4")
    assert refused.code == 2
    assert "--accept-changes" in refused.err
    accepted = envkit("eval", "--resume", "run", "--temperature", "0.3", "-n", "4", "--accept-changes", "--json")
    assert (accepted.code, accepted.json["n_tasks"]) == (0, 4), accepted.err
    lines = [json.loads(line) for line in (envkit.cwd / "run/rollouts.jsonl").read_text().splitlines()]
    assert [bool(line.get("changes")) for line in lines] == [False, False, True, True]
    wider = envkit("eval", "--resume", "run", "-k", "2", "--json")
    assert (wider.code, wider.json["headline"] is not None) == (0, True), wider.err
    lines = [json.loads(line) for line in (envkit.cwd / "run/rollouts.jsonl").read_text().splitlines()]
    assert [bool(line.get("changes")) for line in lines] == [False] * 2 + [True] * 6
    shown = envkit("show", "run", "--json").json
    assert (shown["k"], shown["mean"]) == (2, wider.json["mean"])


def test_a_run_may_be_resumed_from_another_folder(envkit: Envkit, server: Server) -> None:
    (envkit.cwd / "rows.jsonl").write_text('{"id": "a", "prompt": "1+1?", "answer": 2}\n')
    started = envkit("eval", SUMS, "-e", server.url, "-a", "rows=true", "--data", "rows.jsonl", "--out", "run")
    assert started.code == 0, started.err
    elsewhere = Envkit(envkit.cwd / "elsewhere")
    elsewhere.cwd.mkdir()
    ended = elsewhere("eval", "--resume", envkit.cwd / "run", "-k", "2", "--json")
    assert (ended.code, ended.json["scored"]) == (0, 2), ended.err


def test_a_replay_goes_on_from_any_folder_but_only_with_the_same_replies(envkit: Envkit, server: Server) -> None:
    (envkit.cwd / "judge.jsonl").write_text('{"task_id": "1+1", "response": "x"}\n')
    roles = ("-a", "judge=true", "--role", "judge=replay:judge.jsonl")
    assert envkit("eval", SUMS, "-e", server.url, *roles, "-n", "1", "--out", "run").code == 0
    elsewhere = Envkit(envkit.cwd / "elsewhere")
    elsewhere.cwd.mkdir()
    assert elsewhere("eval", "--resume", envkit.cwd / "run", "-k", "2").code == 0
    (envkit.cwd / "judge.jsonl").write_text('{"task_id": "1+1", "response": "y"}\n')
    refused = envkit("eval", "--resume", "run", "-k", "3")
    assert (refused.code, "models.judge.fingerprint was sha256:" in refused.err) == (2, True), refused.err


def test_an_endpoint_that_always_fails_alike_stops_the_run(envkit: Envkit, serve: Callable[..., Server]) -> None:
    server = serve(add, faults=[Fault("400", most=10**6)])
    ended = envkit("eval", SUMS, "-e", server.url, "-a", "n=200", "--concurrency", "4", "--json")
    assert ended.code == 4, ended.err
    assert ended.json["failed"] < 50
    assert "failed alike" in ended.err


def test_a_request_timeout_is_retried(envkit: Envkit, serve: Callable[..., Server]) -> None:
    server = serve(add, faults=[Fault("hang", most=1)])
    ended = envkit("eval", SUMS, "-e", server.url, "-n", "2", "--request-timeout", "0.3", "--json")
    assert (ended.code, ended.json["scored"], ended.json["retried"]) == (0, 2, 2), ended.err


def test_an_environments_failures_are_run_again_where_asked_for(envkit: Envkit, server: Server) -> None:
    args = ["-a", "broken=run", "-e", server.url, "-n", "4", "--out", "run"]
    assert envkit("eval", SUMS, *args).code == 1
    asked = server.answered
    assert envkit("eval", "--resume", "run").code == 1
    assert server.answered == asked
    retried = envkit("eval", "--resume", "run", "--retry", "env", "--json")
    assert (retried.code, retried.json["failed"]) == (1, 1)
    lines = [json.loads(line) for line in (envkit.cwd / "run/rollouts.jsonl").read_text().splitlines()]
    assert [(line["task_id"], line.get("attempt", 0)) for line in lines if line["task_id"] == "2+2"] == [
        ("2+2", 0),
        ("2+2", 1),
    ]


def test_another_role(envkit: Envkit, server: Server) -> None:
    ended = envkit("eval", SUMS, "-a", "judge=true", "-e", server.url, "--role", "judge=nop", "-n", "2", "--json")
    assert ended.code == 0, ended.err
