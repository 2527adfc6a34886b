from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from envkit.sandbox.base import MiB
from envkit.sandbox.slot import cgroups
from envkit.sandbox.slot.cgroups import Cgroups, Lane


@pytest.fixture
def made() -> Iterator[Cgroups]:
    found = cgroups.find(f"envkit-test-{os.getpid()}")
    if found is None:
        pytest.skip("this user may make no cgroups here")
    found.create()
    yield found
    found.remove()
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


def test_find_makes_nothing() -> None:
    found = cgroups.find(f"envkit-nothing-{os.getpid()}")
    assert found is None or not any(root.exists() for root in found.roots)


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
