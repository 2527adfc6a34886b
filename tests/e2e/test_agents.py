"""Episodes of many turns from end to end: killed in the middle, and with tools, servers and users that go wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Envkit
from e2e.test_interrupted import statistics, wait_for
from server import Server

ERRANDS = str(Path(__file__).parent / "errands.py")


def carry(messages: list[dict[str, Any]]) -> str | dict[str, Any]:
    """One call for each parcel that the task names, then a word."""
    due = int(re.findall(r"Carry (\d+)", messages[0]["content"])[0])
    made = sum(message["role"] == "assistant" for message in messages)
    if made == due:
        return "That was the last one."
    function = {"name": "carry", "arguments": json.dumps({"parcel": made})}
    return {"content": None, "tool_calls": [{"id": f"call_{made}", "type": "function", "function": function}]}


def traces(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    """The report without its times, those of its tools among them."""
    uses = {name: (use["calls"], use["errors"]) for name, use in report["tools"].items()}
    return {**statistics(report), "tools": uses}


def test_a_kill_in_the_middle_of_episodes_costs_only_those(envkit: Envkit, serve: Callable[..., Server]) -> None:
    args = (ERRANDS, "-a", "n=12", "-k", "2", "--seed", "1")
    whole = envkit("eval", *args, "-e", serve(carry).url, "--json").json
    assert whole["mean"] == 1.0
    server = serve(carry, latency=0.05)
    process = envkit.start("eval", *args, "-e", server.url, "--concurrency", "6", "--out", "run")
    wait_for(lambda: server.answered >= 60, process)
    process.kill()
    envkit.end(process)
    kept = traces(envkit.cwd / "run")
    assert 0 < len(kept) < 24
    before = server.answered
    resumed = envkit("eval", "--resume", "run", "--json")
    assert resumed.code == 0, resumed.err
    assert timeless(resumed.json) == timeless(whole)
    whole_turns = sum(2 * (task + 1) for task in range(2, 14))
    assert server.answered - before == whole_turns - sum(len(trace["turns"]) for trace in kept)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("hangs", "'carry' was stopped: it did not finish in 1 s."),
        ("floods", "parcel parcel"),
        ("dies", "ConnectionResetError: the cart broke down"),
    ],
)
def test_what_a_tool_does_wrong_is_told_to_the_model_and_counted(
    envkit: Envkit, serve: Callable[..., Server], broken: str, said: str
) -> None:
    server = serve(carry)
    ended = envkit("eval", ERRANDS, "-a", "n=1", "-a", f"broken={broken}", "-e", server.url, "--out", "run", "--json")
    assert ended.code == 0, ended.err
    told = [message["content"] for message in server.bodies[-1]["messages"] if message["role"] == "tool"]
    assert len(told) == 2
    assert all(said in text and len(text) < 110_000 for text in told)
    [trace] = traces(envkit.cwd / "run")
    assert "error" not in trace
    assert trace["tools"]["carry"]["calls"] == 2
    assert trace["tools"]["carry"].get("errors", 0) == (0 if broken == "floods" else 2)
    assert ended.json["tools"]["carry"]["calls"] == 2


def test_an_mcp_server_that_dies_fails_the_rollout_for_infrastructure(
    envkit: Envkit, serve: Callable[..., Server]
) -> None:
    pytest.importorskip("mcp", reason="the extra envkit[mcp] is not installed")
    ended = envkit(
        "eval", ERRANDS, "-a", "n=2", "-a", "broken=mcp", "-e", serve(carry).url, "--out", "run", "--json"
    )  # fmt: skip
    assert ended.code == 1, ended.err
    assert (ended.json["failed"], ended.json["mean"]) == (2, None)
    assert {trace["error"]["kind"] for trace in traces(envkit.cwd / "run")} == {"infra"}
    assert "carry" in traces(envkit.cwd / "run")[0]["error"]["message"]
    assert "infra" in ended.err


def test_a_user_that_never_stops_is_ended_by_the_turn_limit_and_named(
    envkit: Envkit, serve: Callable[..., Server]
) -> None:
    server = serve(lambda messages: "And another one, please.")
    ended = envkit(
        "eval", ERRANDS, "-a", "n=2", "-a", "broken=user", "-a", "turns=5",
        "-e", server.url, "--role", f"user={server.url}", "--out", "run", "--json",
    )  # fmt: skip
    assert ended.code == 1, ended.err
    assert (ended.json["failed"], ended.json["mean"]) == (2, None)
    for trace in traces(envkit.cwd / "run"):
        assert trace["error"]["kind"] == "model"
        assert trace["error"]["message"] == "role 'user' (agent 'user') was cut short: max_turns"
    assert "role 'user' (agent 'user') was cut short: max_turns" in ended.err + envkit("show", "run").out
