"""What `eval` can be told, whoever tells it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from envkit.cli.options import EvalOptions, pairs, split_ids
from envkit.errors import UsageError


def test_what_is_nearer_wins_and_tables_are_merged() -> None:
    options = EvalOptions.of(
        ("run.json", {"env": "a", "seed": 1, "sampling": {"top_p": 0.9, "temperature": 1.0}}),
        ("run.toml", {"max-cost": 2, "temperature": 0.5, "args": {"split": "test"}}),
        ("command line", {"env": "b", "sampling": {"top_k": 5}, "max_tokens": 7, "args": {"n": 3}}),
    )
    assert (options.env, options.seed, options.max_cost) == ("b", 1, 2.0)
    assert options.sampling == {"top_p": 0.9, "temperature": 0.5, "top_k": 5, "max_tokens": 7}
    assert options.args == {"split": "test", "n": 3}


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ({"temprature": 1}, "run.toml: there is no option 'temprature'"),
        ({"limit": 0}, "run.toml: limit: .*greater than or equal to 1"),
        ({"concurrency": "many"}, "run.toml: concurrency: .*'many'"),
        ({"args": 3}, "run.toml: args"),
        ({"sampling": {"token": "hf_x"}}, r"run.toml: sampling: 'token' seems to hold a key.*--key-env\.$"),
        ({"sampling": "x", "temperature": 1}, "run.toml: sampling: .*'x'"),
    ],
)
def test_a_wrong_option_names_its_source(layer: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        EvalOptions.of(("run.toml", layer))


def test_what_is_recorded_is_what_was_said_with_whole_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {
        "env": "./e.py", "data": "rows.jsonl", "endpoint": "replay:r.jsonl", "out": "run", "ids": ("a",), "seed": 0,
        "roles": {"user": "replay:u.jsonl", "judge": "http://h/v1", "foe": "nop"},
    }  # fmt: skip
    recorded = EvalOptions.of(("command line", said)).recorded()
    assert recorded == {
        "env": str(tmp_path / "e.py"),
        "data": str(tmp_path / "rows.jsonl"),
        "endpoint": f"replay:{tmp_path / 'r.jsonl'}",
        "ids": ["a"],
        "seed": 0,
        "roles": {"user": f"replay:{tmp_path / 'u.jsonl'}", "judge": "http://h/v1", "foe": "nop"},
    }
    again = EvalOptions.of(("run.json", recorded))
    assert again.recorded() == recorded


def test_values_are_json_or_else_text() -> None:
    said = pairs("-a", ["n=3", "split=test", 'stop=["a", "b"]', "flag=true", "url=http://x?a=b", "empty=", 'text="3"'])
    assert said == {
        "n": 3, "split": "test", "stop": ["a", "b"], "flag": True, "url": "http://x?a=b", "empty": "", "text": "3",
    }  # fmt: skip
    assert pairs("--role", ["judge=3"], literal=True) == {"judge": "3"}
    assert math.isnan(pairs("-a", ["n=NaN"])["n"])
    with pytest.raises(UsageError, match="-a n: KEY=VALUE"):
        pairs("-a", ["n"])


def test_ids() -> None:
    assert split_ids(["a,b", " c ", '["d,e"]', ""]) == ("a", "b", "c", "d,e")
