"""Folders of tasks in Harbor's and terminal-bench's formats, for the tests that read and run them."""

from __future__ import annotations

from pathlib import Path

CALM = '[environment]\nnetwork_mode = "no-network"\nmemory_mb = 256\nstorage_mb = 32\n'
"""The task.toml of a task that any sandbox can run."""

REWARDED = "echo 1 >/logs/verifier/reward.txt\n"


def written(folder: Path, **files: str) -> Path:
    """The folder with these files, by their paths in it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def harbor_task(folder: Path, toml: str = CALM, *, test: str = REWARDED, **files: str) -> Path:
    """A task's folder: its task.toml, the body of its tests/test.sh, and further files by their paths."""
    own = {"task.toml": toml, "instruction.md": "Do it.\n", "tests/test.sh": f"#!/bin/sh\n{test}"}
    return written(folder, **{**own, **files})


def terminal_bench_task(folder: Path, yaml: str = "instruction: Do it.\n", **files: str) -> Path:
    own = {
        "task.yaml": yaml,
        "Dockerfile": "FROM ghcr.io/laude-institute/t-bench/ubuntu-24-04:20250624\nCOPY in.txt .\n",
        "in.txt": "in\n",
        "run-tests.sh": "cat $TEST_DIR/said\n",
        "tests/said": "= short test summary info =\nPASSED tests/test_outputs.py::test_it\n",
        "solution.sh": "cp in.txt out.txt\n",
    }
    return written(folder, **{**own, **files})
