"""What must not need Linux: importing envkit, an environment without a sandbox, the pool and docker's backend."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from envkit.sandbox import owners
from envkit.sandbox.docker import DockerBackend, address

ELSEWHERE = """
import os, sys
for name in ("fcntl", "resource", "pwd", "termios", "grp"):
    sys.modules[name] = None  # as on Windows: importing it fails
for name in ("getuid", "geteuid", "sched_getaffinity"):
    delattr(os, name)
import asyncio, pathlib
os.environ["USERNAME"] = "somebody"
from envkit.sandbox import owners
from envkit.sandbox.docker import DockerBackend, address
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
        backend._record()
        asyncio.run(backend.close())
        print(backend._container(__import__("envkit.sandbox").sandbox.SandboxSpec(), 1)["Labels"])
        try:
            find.backend("slot")
        except UsageError as error:
            print(error)
    """)
    assert "No docker daemon answers at unix:///no/such/socket" in said
    assert "envkit.owner" in said
    assert "'slot'" in said


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def place(path: Path, text: str = "") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"unix://{path}"


def test_docker_is_looked_for_where_each_system_has_it(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path != Path("/var/run/docker.sock") and exists(path))
    assert address.default() == "unix:///var/run/docker.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    assert place(home / "run/docker.sock") == address.default()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert place(home / ".colima/default/docker.sock") == address.default()
    assert place(home / ".docker/run/docker.sock") == address.default()
    monkeypatch.setattr(sys, "platform", "win32")
    assert address.default() == "npipe:////./pipe/docker_engine"


def test_docker_is_where_its_context_says(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    place(home / ".docker/config.json", '{"currentContext": "desktop-linux"}')
    assert address.default() == "unix:///var/run/docker.sock"
    meta = home / ".docker/contexts/meta" / hashlib.sha256(b"desktop-linux").hexdigest() / "meta.json"
    place(meta, '{"Endpoints": {"docker": {"Host": "unix:///of/the/context"}}}')
    assert address.default() == "unix:///of/the/context"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert address.default() == "unix:///var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert address.default() == "tcp://elsewhere:2375"
    place(home / ".docker/config.json", "no JSON")
    assert address.default() == "tcp://elsewhere:2375"


@pytest.mark.parametrize(
    ("platform", "advice"),
    [("linux", "setsid dockerd"), ("darwin", "open -a Docker"), ("win32", "start Docker Desktop")],
)
async def test_what_to_do_is_said_for_each_system(monkeypatch: pytest.MonkeyPatch, platform: str, advice: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    why = await DockerBackend(address="unix:///no/such/socket").available()
    assert isinstance(why, str)
    assert advice in why
    assert platform == "linux" or "dockerd" not in why


async def test_a_named_pipe_is_said_not_to_do() -> None:
    why = await DockerBackend(address="npipe:////./pipe/docker_engine").available()
    assert isinstance(why, str)
    assert "set DOCKER_HOST=tcp://localhost:2375" in why


def test_without_proc_the_living_are_told_from_the_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owners, "PROC", tmp_path / "none")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert owners.current().alive()
    assert owners.Owner(os.getppid(), 0, "", "").alive()
    assert not owners.Owner(ended.pid, 0, "", "").alive()
