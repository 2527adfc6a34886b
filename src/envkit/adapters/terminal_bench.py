"""terminal-bench's older format: `task.yaml`, `run-tests.sh`, `tests/`, `solution.sh` or `solution.yaml`, one service.

The verdict is read out of what pytest says at its end, as terminal-bench does: right where every test passed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import Field, ValidationError

from envkit.adapters.dockerfile import read_dockerfile
from envkit.adapters.harbor import FOLDERS, HarborTask
from envkit.adapters.harbor_config import Absent, Seconds, Section, Unsupported, refused
from envkit.adapters.task_box import LIMITS, Build, limited, sandbox_of
from envkit.adapters.task_files import digest
from envkit.errors import UsageError

SUMMARY = re.compile(r"=+\s*short test summary info\s*=+", re.IGNORECASE)
GOOD, BAD = frozenset({"PASSED", "XFAIL", "SKIPPED"}), frozenset({"FAILED", "XPASS", "ERROR"})
"""As terminal-bench counts pytest's words: a skipped test has passed."""

SERVICE = frozenset({"build", "image", "container_name", "command", "environment", "volumes"})
"""What the one service of its compose files has; it is the same in nearly all of them."""


class TaskYaml(Section):
    """The whole file; what has no use here is kept as the task's metadata."""

    instruction: str = Field(min_length=1)
    parser_name: Literal["pytest"] = "pytest"
    max_agent_timeout_sec: Seconds = 360.0
    max_test_timeout_sec: Seconds = 60.0
    run_tests_in_same_shell: Absent = None
    author_name: Any = None
    author_email: Any = None
    difficulty: Any = None
    category: Any = None
    tags: Any = None
    disable_asciinema: Any = None
    estimated_duration_sec: Any = None
    expert_time_estimate_min: Any = None
    junior_time_estimate_min: Any = None


def read_terminal_bench(folder: Path, build: Build) -> HarborTask:
    """The task in this folder; UsageError that names the file and the key where it is none."""
    path = folder / "task.yaml"
    try:
        read = TaskYaml.model_validate(_yaml(path))
    except ValidationError as error:
        raise refused(path, error) from error
    for name in ("run-tests.sh", "Dockerfile"):
        if not (folder / name).is_file():
            raise UsageError(f"{folder} has a task.yaml and no {name}.")
    if (folder / "docker-compose.yaml").exists():
        _check_compose(folder / "docker-compose.yaml")
    recipe = read_dockerfile(folder / "Dockerfile")
    spec, builds = sandbox_of(recipe, folder, image=None, build=build, workdir=None, folders=FOLDERS)
    agent, verifier = read.max_agent_timeout_sec, read.max_test_timeout_sec
    spec = limited(spec, agent=agent, verifier=verifier, limits=LIMITS)
    used = {"instruction", "parser_name", "max_agent_timeout_sec", "max_test_timeout_sec"}
    return HarborTask(
        id=folder.name,
        prompt=read.instruction.strip("\n"),
        sandbox=spec.model_copy(update={"env": {**spec.env, "TEST_DIR": "/tests"}, "network": "open"}),
        directory=str(folder),
        digest=digest(folder),
        form="terminal-bench",
        builds=builds,
        agent_timeout=agent,
        verifier_timeout=verifier,
        metadata=read.model_dump(mode="json", exclude=used, exclude_none=True),
    )


def passed(output: str) -> bool:
    """Whether pytest's summary is there, has a test in it, and every test of it passed. A script that ended without one
    counts as terminal-bench counts it, as not passed: what is broken may be the agent's doing."""
    _, *summary = SUMMARY.split(output, maxsplit=1)
    words = [line.split(maxsplit=1) for line in "".join(summary).splitlines()]
    verdicts = {line[0].rstrip(":") for line in words if len(line) == 2} & (GOOD | BAD)
    return bool(verdicts) and verdicts <= GOOD


def solution(folder: Path) -> list[tuple[str, bytes]]:
    """The script that solves the task; of a solution.yaml, its commands. UsageError for keystrokes, which no shell is
    sent."""
    if (folder / "solution.sh").is_file():
        return [("solution.sh", (folder / "solution.sh").read_bytes())]
    path = folder / "solution.yaml"
    if not path.is_file():
        return []
    steps: list[Any] = cast("list[Any]", read) if isinstance(read := _yaml(path), list) else []
    lines: list[str] = []
    for step in steps:
        known: dict[str, Any] = cast("dict[str, Any]", step) if isinstance(step, dict) else {}
        if not isinstance(known.get("command"), str) or not known.get("append_enter", True):
            raise Unsupported(f"{path}: a solution of keystrokes is not supported: {known or 'no command'}.")
        lines.append(known["command"])
    return [("solution.sh", "\n".join(["#!/bin/bash", *lines, ""]).encode())]


def _check_compose(path: Path) -> None:
    """Unsupported for anything but the one service that terminal-bench's template has."""
    read = _yaml(path)
    content: dict[str, Any] = cast("dict[str, Any]", read) if isinstance(read, dict) else {}
    services: dict[str, Any] = content.get("services") or {}
    if set(content) - {"services", "version"} or len(services) != 1:
        asks = sorted({*content} - {"services", "version"}) or sorted(services)
        raise Unsupported(f"{path}: more than one service is not supported: {', '.join(asks)}.")
    [(name, service)] = services.items()
    if more := sorted(set(service) - SERVICE):
        raise Unsupported(f"{path}: services.{name}.{more[0]} is not supported.")
    if foreign := [each for each in service.get("volumes") or () if "T_BENCH_" not in str(each)]:
        raise Unsupported(f"{path}: services.{name}.volumes: {foreign[0]} is not supported.")
    wanted: Any = service.get("build") or {}
    built: dict[str, Any] = cast("dict[str, Any]", wanted) if isinstance(wanted, dict) else {"context": wanted}
    if odd := {key: value for key, value in built.items() if (key, value) not in BUILD}:
        raise Unsupported(f"{path}: services.{name}.build: {odd} is not supported.")
    environment = [str(each) for each in service.get("environment") or ()]
    if odd_variables := [each for each in environment if not each.startswith("TEST_DIR")]:
        raise Unsupported(f"{path}: services.{name}.environment: {odd_variables[0]} is not supported.")


BUILD = {("context", "."), ("context", "./"), ("dockerfile", "Dockerfile"), ("dockerfile", "./Dockerfile")}


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from error
