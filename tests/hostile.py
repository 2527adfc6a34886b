"""A run whose programs misbehave in every way at once: `python hostile.py ROLLOUTS [FOLDER]`, started by tests.

The oracle "answers" with the programs, so that they come the way a model's do. The last line of stdout is a JSON
object of what the run left behind and what it came to; TMPDIR is to be a folder of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from envkit import Score, SingleTurnEnv, Task, evaluate
from envkit.rollout import Rollout
from envkit.sandbox import ExecLimits, SandboxSpec, owners
from envkit.sandbox.pool import Boxes

MiB = 1 << 20
WALL = float(os.environ.get("HOSTILE_WALL", "1"))
SPEC = SandboxSpec(
    limits=ExecLimits(wall=WALL, cpu=WALL, memory=128 * MiB, pids=24, disk=4 * MiB, files=200, output=64 * 1024)
)
RIGHT = "print(6 * 7)"
PROGRAMS = {
    "right": RIGHT,
    "right, with a daemon that keeps stdout": f"import os, time\nif os.fork(): {RIGHT}\nelse: time.sleep(60)",
    "right, at its exit": f"import atexit\natexit.register(lambda: {RIGHT})",
    "wrong": "print(41)",
    "fork bomb": "import os\nwhile True:\n try: os.fork()\n except OSError: pass",
    "memory": "held = []\nwhile True: held.append(bytearray(1 << 24))",
    "spin": "while True: pass",
    "deaf to signals": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
    "endless stdout": "import os\nwhile True: os.write(1, b'x' * 65536)",
    "endless stderr": "import os\nwhile True: os.write(2, b'x' * 65536)",
    "disk": "with open('/work/full', 'wb') as f:\n while True: f.write(b'x' * 65536)",
    "inodes": "i = 0\nwhile True:\n open(f'/work/{i}', 'w').close(); i += 1",
    "descriptors": "import os\nwhile True: os.dup(1)",
    "kill everyone": "import os\nos.kill(-1, 9)\nos.kill(1, 9)\nos.kill(os.getppid(), 9)",
    "crash": "import ctypes\nctypes.string_at(0)",
    "exit from a thread": "import os, threading as t\nt.Thread(target=lambda: os._exit(3)).start()\nwhile True: pass",
    "threads": "import threading as t, time\nwhile True: t.Thread(target=time.sleep, args=(60,)).start()",
    "deep": "def f(): return f()\nimport sys\nsys.setrecursionlimit(10 ** 9)\nf()",
    "a huge number": "print(len(str(9 ** 9 ** 8)))",
    "not UTF-8": "import os\nos.write(1, bytes(range(128, 256)) * 100)",
    "no program": "this is not Python",
    "shared memory": "i = 0\nwhile True:\n with open(f'/dev/shm/{i}', 'wb') as f: f.write(b'x' * 10**6)\n i += 1",
}


async def judged(rollout: Rollout) -> Score:
    async with rollout.fresh_sandbox() as box:
        result = await box.python(rollout.reply)
    return Score(value=float(result.ok and result.stdout == b"42\n"), reason=result.reason)


def environment(count: int) -> SingleTurnEnv[Task]:
    names = list(PROGRAMS)
    tasks = [
        Task(id=f"{names[i % len(names)]} {i}", prompt="Print 42.", answer=PROGRAMS[names[i % len(names)]])
        for i in range(count)
    ]
    return SingleTurnEnv(tasks, rewards=[judged], sandbox=SPEC)


def left_behind() -> dict[str, list[str]]:
    """What a run could leave: processes below this one, containers, mounts, control groups, temporary files."""
    below = [pid for pid in _pids() if _is_below(pid, os.getpid())]
    # The event loop's own threads, of which there are at most a few, end with the loop.
    return {
        "processes": [str(pid) for pid in sorted(below)],
        "containers": containers(os.getpid()),
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/docker/" not in line],
        "cgroups": sorted(root for root in _roots if os.path.exists(root)),
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
        "records": [record.backend for kind in ("slot", "docker") for record in _records(kind)],
        "descriptors": [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)],
        "threads": [thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")],
    }


_roots: set[str] = set()
"""All control groups that were recorded while it ran."""


def _records(backend: str) -> list[owners.Record]:
    return [record for record in owners.records(backend) if record.owner == owners.current()]


def containers(pid: int) -> list[str]:
    """Those of the process by docker's daemon, as far as there is one."""
    try:
        docker: Any = importlib.import_module("docker")
        client = docker.APIClient(version="auto")
    except Exception:  # noqa: BLE001 - no package, or no daemon
        return []
    try:
        return [str(one["Names"]) for one in client.containers(all=True, filters={"name": f"envkit-{pid}-"})]
    finally:
        client.close()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        if pid == ancestor:
            return True
    return False


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}") and "/proc/" not in os.readlink(f"/proc/self/fd/{fd}")


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main(count: int, out: str | None) -> None:
    print("started", flush=True)
    env = environment(count)
    boxes = Boxes(os.environ.get("HOSTILE_BACKEND", "slot"), gradings=int(os.environ.get("HOSTILE_AT_ONCE", "4")))
    await boxes.about(SPEC)
    await boxes.close()
    before, began, peak = left_behind(), resident(), 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, resident())
            _roots.update(root for record in _records("slot") for root in record.things["cgroups"])
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    report = await evaluate(env, "oracle", concurrency=32, sandbox=boxes, out=out)
    watching.cancel()
    await boxes.close()
    after = left_behind()
    said = {
        "rollouts": report.rollouts,
        "failed": report.failed,
        "mean": report.mean,
        "grown": peak - began,
        "cgroups": len(_roots),
        "left": {kind: [thing for thing in after[kind] if thing not in before[kind]] for kind in after},
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
