from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envkit.sandbox import owners
from envkit.sandbox.base import MiB
from envkit.sandbox.slot import cgroups
from envkit.sandbox.slot.cgroups import Cgroups, Lane


def places() -> list[Cgroups]:
    return cgroups.places(f"envkit-test-{os.getpid()}")


@pytest.fixture
def made() -> Iterator[Cgroups]:
    found = next((made for each in places() if (made := each.made()) is not None), None)
    if found is None:
        pytest.skip("this user may make no cgroups here")
    yield found
    assert found.remove()
    assert not any(root.exists() for root in found.roots)


def run_in(lane: Lane, source: str) -> subprocess.CompletedProcess[str]:
    fds = lane.join()
    join = f"import os\nfor fd in {fds}: os.write(fd, b'0')\n"
    try:
        return subprocess.run(
            [sys.executable, "-c", join + source], pass_fds=fds, capture_output=True, text=True, check=False
        )
    finally:
        for fd in fds:
            os.close(fd)


def test_looking_makes_nothing() -> None:
    assert not any(root.exists() for each in places() for root in each.roots)


def test_memory_is_limited_and_measured_anew_each_time(made: Cgroups) -> None:
    lane = made.lane("a")
    lane.limit(memory=64 * MiB, pids=16)
    assert run_in(lane, "x = bytearray(200 << 20)").returncode == -9
    assert lane.out_of_memory()
    lane.limit(memory=256 * MiB, pids=16)
    assert not lane.out_of_memory()
    assert run_in(lane, "x = bytearray(100 << 20)").returncode == 0
    assert not lane.out_of_memory()
    peak = lane.peak_memory()
    assert peak is not None
    assert 100 * MiB < peak < 160 * MiB
    lane.limit(memory=64 * MiB, pids=16)
    peak = lane.peak_memory()
    assert peak is not None
    assert peak < 64 * MiB
    assert run_in(lane, "print('fits')").stdout == "fits\n"


def test_processes_are_limited(made: Cgroups) -> None:
    lane = made.lane("a")
    lane.limit(memory=256 * MiB, pids=5)
    source = (
        "import time\nmade = 0\ntry:\n  while os.fork(): made += 1\n  time.sleep(0.2)\n"
        "except OSError: print(made)"
    )  # fmt: skip
    assert run_in(lane, source).stdout == "4\n"


def test_processor_time_is_counted(made: Cgroups) -> None:
    lane = made.lane("a")
    lane.limit(memory=256 * MiB, pids=5)
    before = lane.cpu()
    if before is None:
        pytest.skip("no cpuacct controller")
    run_in(lane, "import time\nwhile time.process_time() < 0.2: pass")
    after = lane.cpu()
    assert after is not None
    assert after - before >= 0.1  # what it took before it was inside is not counted


def test_removing_ends_what_is_inside(made: Cgroups) -> None:
    lane = made.lane("a")
    lane.limit(memory=256 * MiB, pids=5)
    fds = lane.join()
    join = f"import os, time\nfor fd in {fds}: os.write(fd, b'0')\nprint('in', flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", join], pass_fds=fds, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"in\n"
        for fd in fds:
            os.close(fd)
        lane.remove()
        assert sleeper.wait(5) == -9


def test_what_cannot_be_removed_is_told_and_not_raised(made: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = made.lane("a")
    fds = lane.join()
    join = f"import os, time\nfor fd in {fds}: os.write(fd, b'0')\nprint('in', flush=True)\ntime.sleep(60)"
    monkeypatch.setattr(owners, "kill", lambda *_: None)
    with subprocess.Popen([sys.executable, "-c", join], pass_fds=fds, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"in\n"
        assert not cgroups.remove(made.roots[0])
        sleeper.kill()
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOENT])
def test_what_another_removes_meanwhile_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def busy(_: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    def gone(_: Path) -> str:
        raise OSError(number, "gone")

    monkeypatch.setattr(Path, "rmdir", busy)
    monkeypatch.setattr(Path, "read_text", gone)
    assert cgroups.remove(tmp_path)


def test_version_2_does_not_refuse_by_itself_what_files_take_already(tmp_path: Path) -> None:
    """With plain files in place of the kernel's."""
    (tmp_path / "a").mkdir()
    for name, text in {
        "memory.current": f"{64 * MiB}\n",
        "memory.max": "",
        "pids.max": "",
        "memory.events": "",
    }.items():
        (tmp_path / "a" / name).write_text(text)
    lane = Cgroups(2, dict.fromkeys(("memory", "pids"), tmp_path)).lane("a")
    lane.limit(memory=128 * MiB, pids=5)
    with pytest.raises(OSError, match="files of the box"):
        lane.limit(memory=32 * MiB, pids=5)


def test_a_place_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "pids").write_text("no folder")
    places = {"memory": tmp_path / "memory/name", "pids": tmp_path / "pids/name"}
    (tmp_path / "memory").mkdir()
    assert Cgroups(1, places).made() is None
    assert not (tmp_path / "memory/name").exists()
