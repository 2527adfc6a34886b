"""What is installed from a built wheel runs in an empty folder, with the environments that ship in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_TO_BE_HAD = ("Could not find a version", "No matching distribution")
"""What pip says where what builds the wheel cannot be fetched."""


def pip(*args: str | Path) -> None:
    ended = subprocess.run([sys.executable, "-m", "pip", "-q", *args], capture_output=True, text=True, check=False)
    if any(words in ended.stderr for words in NOT_TO_BE_HAD):
        pytest.skip(f"the wheel cannot be built here: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `envkit` of a fresh virtual environment, which takes all but envkit itself from this one."""
    wheels, fresh = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("fresh")
    pip("wheel", "--no-deps", "--wheel-dir", wheels, ROOT)
    venv.create(fresh)
    [wheel] = wheels.iterdir()
    pip("--python", fresh / "bin/python", "install", "--no-deps", wheel)
    [site] = fresh.glob("lib/python*/site-packages")
    (site / "all-else.pth").write_text(sysconfig.get_path("purelib"))
    return fresh / "bin/envkit"


def run(envkit: Path, folder: Path, *args: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([envkit, *args], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_wheels_own_environments_are_listed(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(run(installed, tmp_path, "list", "--json"))
    shipped = {path.name for path in (ROOT / "environments").iterdir() if (path / "pyproject.toml").is_file()}
    assert {found["name"] for found in listed} == shipped
    assert all(Path(found["path"]).is_relative_to(installed.parents[1]) for found in listed)


def test_math_500_runs_on_its_sample(installed: Path, tmp_path: Path) -> None:
    args = ("eval", "math-500", "--endpoint", "oracle", "--data", "sample", "--json")
    report = json.loads(run(installed, tmp_path, *args))
    assert (report["mean"], report["n_tasks"], report["scored"]) == (1.0, 36, 36 * report["k"])
