"""A suite of attacks against a backend of somebody else's, whose failures are of its own kinds."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envkit.sandbox import Capabilities, SandboxSpec
from envkit.sandbox.conformance import conform, read_suite
from envkit.sandbox.unsafe import UnsafeBackend


class Dropping(UnsafeBackend):
    """Its connection is lost over programs that say so."""

    name = "dropping"

    async def available(self) -> Capabilities:
        return Capabilities()

    async def start(self, spec: SandboxSpec) -> Any:
        box = await super().start(spec)
        for name in ("python", "write", "exec", "spawn"):
            setattr(box, name, _dropping(getattr(box, name)))
        return box


def _dropping(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def called(*words: Any, **named: Any) -> Any:
        if "# drop" in repr((words, named)):
            raise ConnectionError("it hung up")
        return await method(*words, **named)

    return called


@pytest.fixture(autouse=True)
def _one_at_a_time() -> Iterator[None]:
    with open("/tmp/envkit-test-canary.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def test_a_lost_connection_is_a_complaint_that_names_the_backend(tmp_path: Path) -> None:
    programs = {"attack.py": ("fs", "# drop\n"), "hack.py": ("hack", "# drop\n"), "tame.py": ("fs", "pass\n")}
    rows = [{"file": name, "class": kind, "task": "func"} for name, (kind, _) in programs.items()]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, (_, source) in programs.items():
        (tmp_path / name).write_text(source)
    backend = Dropping(unsafe=True)
    found = {one.attack.file: one.complaints async for one in conform(backend, tmp_path, read_suite(tmp_path))}
    lost = "the sandbox 'dropping' failed: ConnectionError('it hung up')"
    assert found == {"attack.py": (lost, lost), "hack.py": (f"it could not be judged: {lost}",), "tame.py": ()}
