"""Two published runs of HumanEval, replayed by the installed command and compared: the published figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from material import material

from .conftest import Envkit

RUNS = {
    "qwen2": "humaneval_instruct__qwen2-7b-instruct.jsonl",
    "llama3": "humaneval_instruct__llama-3-8b-instruct.jsonl",
}
PUBLISHED = {"qwen2": 0.7012195121951219, "llama3": 0.6402439024390244}


def test_two_replays_and_their_paired_difference(envkit: Envkit, tmp_path: Path) -> None:
    due = json.loads(material("replay/EXPECTED_STATS.json").read_text())["PAIR humaneval qwen2-7b vs llama3-8b"]
    data = material("data/HumanEval.jsonl.gz")
    if envkit("sandbox", "doctor").code:
        pytest.skip("no sandbox works here: envkit sandbox doctor says why")
    for name, file in RUNS.items():
        replay = f"replay:{material('replay') / file}"
        run = envkit.start(
            "eval", "humaneval", "-e", replay, "--data", data, "--concurrency", "8", "--out", tmp_path / name, "--json"
        )  # fmt: skip
        ended = envkit.end(run, timeout=600)
        assert ended.code == 0, ended.err
        assert ended.json["mean"] == pytest.approx(PUBLISHED[name])
        assert ended.json["scored"] == due["n"]
    diff = envkit("diff", "--json", tmp_path / "qwen2", tmp_path / "llama3").json
    assert (diff["n"], len(diff["a_only"]), len(diff["b_only"])) == (due["n"], due["a_only"], due["b_only"])
    assert diff["diff"] == pytest.approx(due["diff"])
    assert diff["paired_se"] == pytest.approx(due["paired_se"])
    assert diff["unpaired_se"] == pytest.approx(due["unpaired_se"])
    assert diff["p"] == pytest.approx(due["mcnemar_exact_p"])
