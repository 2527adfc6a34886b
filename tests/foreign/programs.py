"""Agent programs that others wrote, installed once from their registries, and how each is started in a box."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

MINI = "2.4.6"
CODEX = "0.169.0"
CACHE = Path(tempfile.gettempdir()) / "envkit-foreign-programs"


def mini_swe_agent() -> bytes:
    """mini-swe-agent and what it imports, as a tar archive for `PYTHONPATH`."""
    folder = CACHE / f"mini-swe-agent-{MINI}"
    pins = Path(__file__).with_name("mini_swe_agent.txt")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--no-deps",
        "--disable-pip-version-check",
    ]
    return _packed(_installed(folder, [*pip, "--target", "{folder}", "-r", str(pins)]))


def codex() -> bytes:
    """The program `codex`, as a tar archive."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which codex is installed with")
    folder = CACHE / f"codex-{CODEX}"
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", "{folder}", f"@openai/codex@{CODEX}"]
    found = list(_installed(folder, npm).glob("node_modules/@openai/*/vendor/*/bin/codex"))
    if not found:
        pytest.skip("codex has no program for this machine")
    return _packed(found[0])


def run_mini(prompt: str, env: Mapping[str, str]) -> tuple[Sequence[str], dict[str, str]]:
    """(argv, environment) of mini-swe-agent at its task, unpacked in /agent; it asks by chat completions."""
    argv = ["python3", "-m", "minisweagent.run.mini", "--yolo", "--exit-immediately", "--cost-limit", "0"]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "MSWEA_COST_TRACKING": "ignore_errors", "MSWEA_CONFIGURED": "true"}
    once = {"MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1", "MSWEA_SILENT_STARTUP": "1"}
    where = {"PYTHONPATH": "/agent", "HOME": "/home/agent"}
    return [*argv, "-m", f"openai/{env['OPENAI_MODEL']}", "-t", prompt, "-o", "/home/agent/run.json"], {
        **env, **quiet, **once, **where,
    }  # fmt: skip


def run_codex(prompt: str, env: Mapping[str, str]) -> tuple[Sequence[str], dict[str, str]]:
    """(argv, environment) of codex at its task, unpacked in /agent; it asks by responses, as a stream."""
    provider = f'{{name="envkit",base_url="{env["OPENAI_BASE_URL"]}",env_key="OPENAI_API_KEY",wire_api="responses"}}'
    argv = [
        "/agent/codex",
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        "--ephemeral",
    ]
    argv += ["-c", "model_provider=envkit", "-c", f"model_providers.envkit={provider}", "-m", env["OPENAI_MODEL"]]
    return [*argv, prompt], {**env, "HOME": "/home/agent"}


def _installed(folder: Path, command: Sequence[str]) -> Path:
    """The folder that the command fills, made once; skips the test where there is no registry to be reached."""
    if not (folder / "made.txt").exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            done = subprocess.run(
                [part.replace("{folder}", scratch) for part in command], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.skip(f"{folder.name} cannot be installed here: {(done.stderr or done.stdout)[-300:]}")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(scratch, folder, symlinks=True)
        (folder / "made.txt").touch()
    return folder


def _packed(path: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(path, path.name if path.is_file() else ".")
    return packed.getvalue()
