"""Every containment program of the material, in a docker box: none prints ESCAPED, and the next program runs well."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest
from material import FOLDER, material

from envkit.sandbox import ExecLimits, ExecResult, Sandbox, SandboxSpec
from envkit.sandbox.base import MiB
from envkit.sandbox.docker import DockerBackend

LIMITS = ExecLimits(wall=2.0, cpu=2.0, memory=256 * MiB, pids=64, disk=32 * MiB, files=1000)
TOKEN = "CANARY_ENV_0123456789abcdef"

CLASSES = ("fs", "kernel", "lifecycle", "net", "output", "resource", "secrets")
DAMAGING = frozenset({"inode_fill.py", "sparse_huge_file.py", "write_passwd.py"})
"""They fill or change the files of their own box, which then goes with them."""

EXPECTED = {
    "close_stdio_then_spin.py": "timeout",
    "ignore_sigterm.py": "timeout",
    "bigint_uninterruptible.py": "timeout",
    "regex_catastrophe.py": "timeout",
    "fork_bomb.py": "timeout",
    "infinite_stdout.py": "output",
    "infinite_stderr.py": "output",
    "long_line.py": "output",
    "memory_bomb.py": "memory",
}


def attacks(kind: str) -> list[str]:
    with suppress(OSError):
        lines = (FOLDER / "attacks/manifest.jsonl").read_text().splitlines()
        return [row["file"] for row in map(json.loads, lines) if row["class"] == kind]
    return ["manifest.jsonl"]


@pytest.mark.parametrize("kind", CLASSES)
async def test_they_are_contained(kind: str, host: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVKIT_CANARY", TOKEN)
    backend = await _docker()
    passwd = Path("/etc/passwd").read_bytes()
    spec = SandboxSpec(limits=LIMITS)
    box = await backend.start(spec)
    try:
        await _assert_healthy(box)
        for name in attacks(kind):
            _assert_contained(name, await box.python(material(f"attacks/{name}").read_text()))
            if name == "persist_between_runs.py" or name in DAMAGING:
                await box.close()
                box = await backend.start(spec)
            if name == "persist_between_runs.py":
                _assert_contained(name, await box.python(material(f"attacks/{name}").read_text()))
            if name == "symlink_result_swap.py":
                assert await box.read("result.json") == b"box\n"
            await _assert_healthy(box)
    finally:
        await box.close()
        await backend.close()
    assert not host
    assert Path("/etc/passwd").read_bytes() == passwd
    assert not await asyncio.to_thread(_left, b"envkit-daemon-marker")


async def _docker() -> DockerBackend:
    backend = DockerBackend()
    if isinstance(why := await backend.available(), str):
        pytest.skip(why)
    return backend


async def _assert_healthy(box: Sandbox) -> None:
    """The positive control: without it, "all contained" may only mean that nothing had started."""
    result = await box.python("import subprocess; print(subprocess.run(['echo', '42'], capture_output=True).stdout)")
    assert (result.stdout, result.reason) == (b"b'42\\n'\n", "exit"), result


def _assert_contained(name: str, result: ExecResult) -> None:
    written = result.stdout + result.stderr
    assert b"ESCAPED" not in written, (name, written[:500])
    assert b"CANARY" not in written, (name, written[:500])
    assert len(result.stdout) <= LIMITS.output, name
    assert result.wall < 30, name
    if name in EXPECTED:
        assert result.reason == EXPECTED[name], (name, result.reason)


def _left(word: bytes) -> list[str]:
    """Processes of this machine with the word in their command line."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word in path.read_bytes():
                found.append(path.parent.name)
    return found
