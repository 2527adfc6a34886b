"""A server that misbehaves on a fifth of the calls, up to three times for one: nothing is lost, no mean moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from e2e.conftest import SUMS, Envkit, add
from server import Fault, Kind, Server

MENDED: list[Kind] = ["429", "500", "reset", "hang", "garbage", "empty", "truncated"]
ROLLOUTS = ("-a", "n=150", "-k", "2", "--concurrency", "64", "--seed", "1", "--json")
"""300 calls, each with a body of its own."""


@pytest.mark.parametrize("kind", MENDED)
def test_a_fault_on_a_fifth_of_the_calls_costs_nothing(
    envkit: Envkit, serve: Callable[..., Server], kind: Kind
) -> None:
    server = serve(add, faults=[Fault(kind, share=0.2, most=3)])
    ended = envkit("eval", SUMS, "-e", server.url, *ROLLOUTS, "--request-timeout", "2")
    assert ended.code == 0, ended.err
    report = ended.json
    assert (report["scored"], report["failed"], report["mean"]) == (300, 0, pytest.approx(2 / 3))
    assert 30 < report["retried"] < 90
    assert len(server.calls) == 300
    assert sum(server.calls.values()) > 330


def test_a_context_overflow_is_truncated_and_scored(envkit: Envkit, serve: Callable[..., Server]) -> None:
    server = serve(add, faults=[Fault("overflow", share=0.2)])
    report = envkit("eval", SUMS, "-e", server.url, *ROLLOUTS).json
    assert 30 < report["truncated"] < 90
    assert report["truncated_by"] == {"context": report["truncated"]}
    assert (report["scored"], report["failed"]) == (300, 0)


def test_a_server_that_fails_for_good_gives_no_mean(envkit: Envkit, serve: Callable[..., Server]) -> None:
    server = serve(add, faults=[Fault("401", most=10**6)])
    ended = envkit("eval", SUMS, "-e", server.url, *ROLLOUTS)
    assert ended.code == 4, ended.err
    report = ended.json
    assert (report["mean"], report["headline"], report["scored"]) == (None, None, 0)
    assert 20 <= report["failed"] < 100


@pytest.mark.parametrize("kind", ["401", "500"])
def test_a_few_tasks_that_all_fail_for_the_endpoint_end_in_its_code(
    envkit: Envkit, serve: Callable[..., Server], kind: Kind
) -> None:
    server = serve(add, faults=[Fault(kind, most=10**6)])
    (envkit.cwd / "endpoints.toml").write_text(f'[sums]\nurl = "{server.url}"\nmax_retries = 1\n')
    ended = envkit("eval", SUMS, "-e", "sums", "-n", "5", "--fail-under", "0.5", "--json")
    assert ended.code == 4, ended.err
    assert (ended.json["mean"], ended.json["failed_by_kind"]) == (None, {"model": 5})


def test_a_server_that_fails_for_good_from_the_middle_on(envkit: Envkit, serve: Callable[..., Server]) -> None:
    def falls(messages: list[dict[str, Any]]) -> str:
        if server.answered == 40:
            server.faults.append(Fault("500", most=10**6))
        return add(messages)

    server = serve(falls)
    (envkit.cwd / "endpoints.toml").write_text(f'[sums]\nurl = "{server.url}"\nmax_retries = 1\n')
    ended = envkit("eval", SUMS, "-e", "sums", "-a", "n=100", "--concurrency", "8", "--out", "run", "--json")
    assert ended.code == 1, ended.err
    report, lines = ended.json, (envkit.cwd / "run/rollouts.jsonl").read_text().splitlines()
    traces = [json.loads(line) for line in lines]
    failed = [trace for trace in traces if trace.get("outcome") == "failed"]
    assert (report["scored"], report["failed"], len(traces)) == (server.answered, 100 - server.answered, 100)
    assert {(trace.get("reward"), trace["error"]["kind"], trace["error"]["status"]) for trace in failed} == {
        (None, "model", 500)
    }
    assert 40 <= report["scored"] < 60
    assert report["mean"] == pytest.approx(sum(trace.get("reward") or 0 for trace in traces) / report["scored"])
    assert (report["headline"], report["failed_by_kind"]) == (None, {"model": report["failed"]})
