"""A disk that is full stops a run; what was saved stays, and the run can go on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import SUMS, Envkit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(envkit: Envkit, small_disk: Path) -> None:
    run = small_disk / "run"
    ended = envkit("eval", SUMS, "-e", "oracle", "-a", "n=300", "--out", run, "--fail-under", "1.1", "--json")
    assert ended.code == 1, ended.err
    assert "No space left" in ended.err
    assert f"envkit eval --resume {run}" in ended.err
    assert "Traceback" not in ended.err
    saved = [json.loads(line)["task_id"] for line in (run / "rollouts.jsonl").read_text().splitlines()]
    assert 0 < len(saved) < 300
    assert envkit("show", run).code == 0
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    resumed = envkit("eval", "--resume", run, "--fail-under", "1", "--json")
    assert (resumed.code, resumed.json["scored"]) == (0, 300), resumed.err
    after = [json.loads(line)["task_id"] for line in (run / "rollouts.jsonl").read_text().splitlines()]
    assert after[: len(saved)] == saved
    assert len(after) == 300
