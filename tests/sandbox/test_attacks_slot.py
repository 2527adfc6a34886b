"""Every containment program of the material, in a slot: none may print ESCAPED, and the box is healthy afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest
from material import FOLDER, material
from sandbox.slots import assert_healthy, slots

from envkit.sandbox.base import Capabilities, ExecLimits, ExecResult, MiB, SandboxSpec
from envkit.sandbox.slot.backend import SlotBackend

LIMITS = ExecLimits(wall=3.0, cpu=3.0, memory=512 * MiB, pids=64, disk=32 * MiB, files=1000)
PATIENT = LIMITS.model_copy(update={"wall": 30.0})
"""For programs that end by themselves, or by another limit than the clock's: on a busy machine, later."""
ENDLESS = {
    "close_stdio_then_spin.py", "ignore_sigterm.py", "bigint_uninterruptible.py", "regex_catastrophe.py",
    "fork_bomb.py",
}  # fmt: skip
TOKEN = "CANARY_ENV_0123456789abcdef"


def attacks() -> list[str]:
    with suppress(OSError):
        lines = (FOLDER / "attacks/manifest.jsonl").read_text().splitlines()
        return [row["file"] for row in map(json.loads, lines) if row["class"] != "hack"]
    return ["manifest.jsonl"]


@pytest.fixture
async def backend(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[SlotBackend, Capabilities]]:
    monkeypatch.setenv("ENVKIT_CANARY", TOKEN)
    async with slots(idle=1) as found:
        yield found


@pytest.mark.parametrize("name", attacks())
async def test_it_is_contained(name: str, backend: tuple[SlotBackend, Capabilities], host: list[str]) -> None:
    program = material(f"attacks/{name}").read_text()
    opener, found = backend
    passwd = Path("/etc/passwd").read_bytes()
    limits = LIMITS if name in ENDLESS else PATIENT
    async with await opener.start(SandboxSpec(limits=limits)) as box:
        await assert_healthy(box)
        result = await box.python(program)
        _assert_contained(name, result, found)
        await assert_healthy(box)
        if name == "symlink_result_swap.py":
            assert await box.read("result.json") == b"box\n"
    async with await opener.start(SandboxSpec(limits=limits)) as box:
        if name == "persist_between_runs.py":
            _assert_contained(name, await box.python(program), found)
        await assert_healthy(box)
    assert not host
    assert Path("/etc/passwd").read_bytes() == passwd
    assert not await asyncio.to_thread(_left, b"envkit-daemon-marker")


def _assert_contained(name: str, result: ExecResult, found: Capabilities) -> None:
    written = result.stdout + result.stderr
    assert b"ESCAPED" not in written, written[-2000:]
    assert b"CANARY" not in written
    if Path("/etc/shadow").exists() and os.getuid() == 0:
        assert Path("/etc/shadow").read_bytes()[:40] not in written
    assert len(result.stdout) <= LIMITS.output
    assert len(result.stderr) <= LIMITS.output
    assert result.wall < (LIMITS if name in ENDLESS else PATIENT).wall + 1.5
    memory = "memory" if found.memory else "exit"
    expected = {
        **dict.fromkeys(ENDLESS, "timeout"),
        "infinite_stdout.py": "output",
        "infinite_stderr.py": "output",
        "long_line.py": "output",
        "memory_bomb.py": memory,
    }
    if name in expected:
        assert result.reason == expected[name]
    elif name != "kill_all.py":
        assert result.reason == "exit"


def _left(marker: bytes) -> list[str]:
    """Processes of the host whose command line has the marker; they may take a moment to be reaped."""
    for _ in range(20):
        left: list[str] = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "cmdline").read_bytes().startswith(marker):
                    left.append(folder.name)
        if not left:
            return left
        time.sleep(0.05)
    return left
