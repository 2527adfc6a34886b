"""gsm8k-python: its gates, its cuts, and the published score of ToRA 70B with the recorded code really run."""

import json
from functools import cache
from typing import Any

import pytest
from environments.cuts import cut_everywhere
from environments.replays import rollouts, total
from material import material

from envkit.clients.scripted import Oracle, Replay, Scripted, call
from envkit.packages.check import check
from envkit.packages.find import find
from envkit.trace import Trace

pytestmark = pytest.mark.usefixtures("isolated")

FILE = "gsm8k_python__tora-70b-v1.0.jsonl"
CUT_OFF = "gsm8k/test/146"
"""The recording ends with a call of the tool: what followed is not known, and so it fails. Published as wrong."""
OTHERWISE = {"gsm8k/test/587", "gsm8k/test/881"}
"""Recorded as "SyntaxError: invalid syntax" without the line, and as the exception of ToRA's own timer."""
WITHOUT_A_BOX = {f"gsm8k/test/{i}" for i in (14, 98, 118, 288, 367, 630, 718, 728, 760)}
"""The last reply says the number in a sentence; ToRA's evaluation then takes what the code printed."""


@cache
def rows() -> dict[str, dict[str, Any]]:
    """The recorded rows by their question."""
    lines = material(f"replay/{FILE}").read_text(encoding="utf-8").splitlines()
    return {row["prompt"]: row for row in map(json.loads, lines)}


def recorded(trace: Trace) -> dict[str, Any]:
    return rows()[str(trace.task.prompt)]


def told(row: dict[str, Any]) -> list[str]:
    """What the recorded model was told that its code printed."""
    return [message["content"].strip() for message in row["messages"] if message["role"] == "tool"]


def outputs(trace: Trace) -> list[str]:
    """What the code printed, as the model was told."""
    return [m.text.strip() for turn in trace.turns for m in turn.prompt if m.role == "tool"]


async def test_every_gate_is_passed() -> None:
    gates = await check(find("gsm8k-python"), n=6)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_it_may_be_cut_at_every_turn() -> None:
    env = find("gsm8k-python").load("sample")
    model = Scripted(
        lambda messages: (
            call("python", code="1 + 1") if sum(m.role == "assistant" for m in messages) < 5 else "So it is \\boxed{2}."
        )
    )
    [traces] = (await cut_everywhere(env, list(env.tasks)[:1], model)).values()
    assert len(traces) == 7
    oracle = await cut_everywhere(env, list(env.tasks)[:2], Oracle(env))
    assert {traces[-1].reward for traces in oracle.values()} == {1.0}


async def test_it_ends_after_six_turns() -> None:
    env = find("gsm8k-python").load("sample")
    assert env.limits.max_turns == 6


@pytest.mark.slow
async def test_tora_70b_gives_the_published_score_and_its_code_prints_what_was_recorded() -> None:
    """All 1,319 rows: they take about two minutes, most of it sympy's import, each time in a box that is new."""
    env = find("gsm8k-python").load(str(material("data/gsm8k_test.jsonl")), grader="tora")
    traces = await rollouts(env, Replay(material(f"replay/{FILE}")))
    assert len(traces) == 1319
    [failed] = [trace for trace in traces.values() if trace.outcome != "completed"]
    assert recorded(failed)["task_id"] == CUT_OFF
    assert failed.error is not None
    assert failed.error.kind == "model"
    assert sum(trace.reward or 0.0 for trace in traces.values()) == 1112
    done = [trace for trace in traces.values() if trace is not failed]
    assert [t.task_id for t in done if t.reward != recorded(t)["expected_score"]] == []
    assert sum(len(outputs(t)) for t in done) == len(done) == 1318
    equal = [outputs(t) == told(recorded(t)) for t in done]
    assert equal.count(True) == 1316
    assert {recorded(t)["task_id"] for t, same in zip(done, equal, strict=True) if not same} == OTHERWISE


async def test_without_a_box_there_is_no_answer_but_by_toras_rule() -> None:
    env = find("gsm8k-python").load(str(material("data/gsm8k_test.jsonl")))
    asked = {question for question, row in rows().items() if row["task_id"] in WITHOUT_A_BOX}
    env.tasks = env.tasks.filter(lambda task: task.prompt in asked)
    traces = await rollouts(env, Replay(material(f"replay/{FILE}")))
    assert len(traces) == 9
    assert total(traces) == 0
    assert {recorded(trace)["expected_score"] for trace in traces.values()} == {1.0}
