"""What the README prints runs as printed, and so do the examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server import Server

REPOSITORY = Path(__file__).parents[1]


def evaluated(environment: Path, *args: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "envkit", "eval", str(environment), "--json", *args]
    ended = subprocess.run(command, cwd=environment.parent, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def copied(name: str, folder: Path) -> Path:
    (folder / name).write_text((REPOSITORY / "examples" / name).read_text())
    return folder / name


def test_the_seven_lines_run_as_printed(tmp_path: Path) -> None:
    code = next(c for c in re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL))
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 7
    (tmp_path / "sums.py").write_text(code)
    assert evaluated(tmp_path / "sums.py", "-e", "oracle")["mean"] == 1.0
    assert evaluated(tmp_path / "sums.py", "-e", "nop")["mean"] == 0.0


@pytest.mark.parametrize("name", ["tools_with_state", "mcp_tools"])
def test_an_example_and_its_oracle(tmp_path: Path, name: str) -> None:
    if name == "mcp_tools":
        pytest.importorskip("mcp", reason="the extra envkit[mcp] is not installed")
    assert evaluated(copied(f"{name}.py", tmp_path), "-e", "oracle")["mean"] == 1.0


@pytest.mark.parametrize("name", ["code_in_a_sandbox", "external_agent"])
def test_what_a_model_has_run_is_run_in_a_sandbox_and_judged(name: str, tmp_path: Path) -> None:
    doctor = subprocess.run([sys.executable, "-m", "envkit", "sandbox", "doctor"], capture_output=True, check=False)
    if doctor.returncode:
        pytest.skip("no sandbox works here: envkit sandbox doctor says why")
    environment = copied(f"{name}.py", tmp_path)
    assert evaluated(environment, "-e", "oracle")["mean"] == 1.0
    assert evaluated(environment, "-e", "nop")["mean"] == 0.0


def test_the_group_reward_pays_the_shortest_right_answer(tmp_path: Path) -> None:
    report = evaluated(copied("in_a_trainer.py", tmp_path), "-e", "oracle", "-n", "3", "-k", "2")
    assert report["rewards"] == {"correct": 1.0, "shortest": 1.0}
    assert report["mean"] == pytest.approx(1.1)


def test_the_simulated_user_and_the_judge(tmp_path: Path) -> None:
    def say(messages: list[dict[str, Any]]) -> str:
        asked = messages[-1]["content"]
        if "Answer 1 or 0" in asked:
            return "1"
        if "You are a customer" in messages[0]["content"]:
            return "When are you open on Sunday?" if asked == "How can I help?" else "DONE"
        return "From 10 to 2."

    with Server(say) as server:
        roles = [arg for role in ("user", "judge") for arg in ("--role", f"{role}={server.url}")]
        report = evaluated(copied("user_simulator.py", tmp_path), "-e", server.url, *roles)
    assert (report["mean"], report["rollouts"]) == (1.0, 1)
    assert len(server.bodies) == 4


def test_what_a_trainer_does() -> None:
    program = REPOSITORY / "examples" / "in_a_trainer.py"
    with Server(lambda _: "It is \\boxed{5}.") as server:
        command = [sys.executable, str(program), server.url, "model"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 16
    assert "16 tokens to train on" in ended.stdout
