"""What must not need Linux: importing envkit, an environment without a sandbox, the pool and docker's backend."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from envkit.sandbox import owners

ELSEWHERE = """
import os, sys
for name in ("fcntl", "resource", "pwd", "termios", "grp"):
    sys.modules[name] = None  # as on Windows: importing it fails
for name in ("getuid", "geteuid", "sched_getaffinity"):
    delattr(os, name)
import asyncio, pathlib
os.environ["USERNAME"] = "somebody"
from envkit.sandbox import owners
owners.PROC = pathlib.Path("/no-proc")
"""


def elsewhere(program: str) -> str:
    code = ELSEWHERE + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_environment_without_a_sandbox_is_evaluated() -> None:
    said = elsewhere("""
        from envkit import SingleTurnEnv, Task, evaluate
        def correct(rollout): return float(rollout.reply == "5")
        env = SingleTurnEnv([Task(id="sum", prompt="2 + 3?", answer="5")], rewards=[correct])
        print(asyncio.run(evaluate(env, "oracle")).mean)
    """)
    assert said == "1.0"


def test_slots_are_said_not_to_work_and_docker_is_asked() -> None:
    said = elsewhere("""
        from envkit.errors import UsageError
        from envkit.sandbox import find
        from envkit.sandbox.docker import DockerBackend
        backend = DockerBackend(address="unix:///no/such/socket")
        print(asyncio.run(backend.available()))
        print(backend._container(__import__("envkit.sandbox").sandbox.SandboxSpec(), 1)["Labels"])
        try:
            find.backend("slot")
        except UsageError as error:
            print(error)
    """)
    assert "No docker daemon answers at unix:///no/such/socket" in said
    assert "envkit.owner" in said
    assert "'slot'" in said


def test_without_proc_the_living_are_told_from_the_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owners, "PROC", tmp_path / "none")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert owners.current().alive()
    assert owners.Owner(os.getppid(), 0, "", "").alive()
    assert not owners.Owner(ended.pid, 0, "", "").alive()
