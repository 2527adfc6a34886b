"""Runs whose programs misbehave in every way at once: the score, and what is left, also of one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from envkit.sandbox import find, owners
from envkit.sandbox.owners import start_time
from envkit.sandbox.slot.backend import SlotBackend
from hostile import PROGRAMS, containers

RUN = Path(__file__).parents[1] / "hostile.py"
ROLLOUTS = int(os.environ.get("HOSTILE_ROLLOUTS", "1000"))
"""Of slots, in about 80 s, which pass in spinning and sleeping mostly; of docker one of each kind."""
BACKENDS = ("slot", "docker")
RIGHT = sum(name.startswith("right") for name in PROGRAMS) / len(PROGRAMS)
GROWS = 100 << 20


@pytest.fixture(autouse=True)
async def _slots_work_here() -> None:
    backend = SlotBackend(idle=0)
    found = await backend.available()
    await backend.close()
    if isinstance(found, str):
        pytest.skip(found)
    if not found.memory:
        pytest.skip("without cgroups the machine's own memory would be at stake")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
async def test_every_way_to_misbehave_at_once_leaves_nothing_and_the_right_score(tmp_path: Path, backend: str) -> None:
    await _there(backend)
    count = -(-ROLLOUTS // len(PROGRAMS)) * len(PROGRAMS) if backend == "slot" else len(PROGRAMS)
    said = _ran(count, tmp_path, backend)
    assert (said["rollouts"], said["failed"]) == (count, 0)
    assert said["mean"] == pytest.approx(RIGHT)
    assert not any(said["left"].values()), said["left"]
    assert said["grown"] < GROWS
    assert said["cgroups"] > 0 or backend == "docker"


@pytest.mark.parametrize("backend", BACKENDS)
async def test_what_a_killed_run_left_is_swept_by_the_next_and_nobody_elses(tmp_path: Path, backend: str) -> None:
    """The next one uses slots, whatever the killed one used."""
    await _there(backend)
    with _bystander() as bystander:
        run = subprocess.Popen(
            [sys.executable, RUN, "4400", tmp_path / "run"],
            env=_environment(backend),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            _until(lambda: (tmp_path / "run/rollouts.jsonl").exists() and _lines(tmp_path / "run/rollouts.jsonl") > 3)
            below = {pid: start_time(pid) for pid in _below(run.pid)}
            recorded = [record for record in owners.records(backend) if record.owner.pid == run.pid]
            left = containers(run.pid)
        finally:
            run.send_signal(signal.SIGKILL)
            run.wait()
        assert recorded
        assert len(below) > 2 if backend == "slot" else left
        _ran(len(PROGRAMS), tmp_path, "slot")
        _until(lambda: not [pid for pid, began in below.items() if began is not None and start_time(pid) == began])
        assert not [root for record in recorded for root in record.things.get("cgroups", ()) if os.path.exists(root)]
        assert not [record for record in owners.records(backend) if record.owner.pid == run.pid]
        assert not containers(run.pid)
        assert bystander.poll() is None


async def _there(name: str) -> None:
    """Skips where this machine lacks the backend."""
    backend = find.backend(name)
    found = await backend.available()
    await backend.close()
    if isinstance(found, str):
        pytest.skip(found)


def _environment(backend: str) -> dict[str, str]:
    """A container's programs start slowly, on two cores with three beside them."""
    return {**os.environ, "HOSTILE_BACKEND": backend, "HOSTILE_WALL": "1" if backend == "slot" else "5"}


def _ran(count: int, folder: Path, backend: str) -> dict[str, Any]:
    """What a run to its end says of itself."""
    temporary = folder / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, RUN, str(count)],
        env=_environment(backend) | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def _bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another user, where this one may start such; else a second one of this user."""
    other = {"user": 65534} if os.getuid() == 0 else {}
    process = subprocess.Popen(["sleep", "600"], start_new_session=True, **other)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _below(ancestor: int) -> list[int]:
    """All living descendants."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [ancestor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _until(true: object, seconds: float = 60.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
