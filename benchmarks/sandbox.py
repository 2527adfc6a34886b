"""What one execution of untrusted code costs: slots beside docker, bwrap and no sandbox at all, in turn, in one run.

    python benchmarks/sandbox.py [--rounds N] [--skip-docker] [--json FILE]

Each way runs `python3 -c pass` one execution at a time. Its CPU is that of the whole machine, since a
docker daemon's work is in no process tree of ours: let nothing else run. What idles costs too, and is measured and
taken off. `docker run` is the unit of the ratios. The second table is what judging costs beside running bare.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from envkit.sandbox import ExecLimits, Sandbox, SandboxSpec
from envkit.sandbox.docker.backend import IMAGE, SECCOMP, DockerBackend
from envkit.sandbox.slot.backend import SlotBackend

PASS = ["python3", "-c", "pass"]
MANY = 20
"""Executions of a fast way in one round: the machine's clock ticks in hundredths of a second."""
FEW = 4
"""Of `docker run` and `docker exec`."""
HARDENED = [
    "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
    f"--security-opt=seccomp={SECCOMP}", "--user=65534:65534", "--pids-limit=64", "--memory=1g", "--memory-swap=1g",
    "--cpus=1", "--tmpfs=/tmp:size=64m", "--log-driver=none", "--oom-score-adj=500",
]  # fmt: skip
BWRAP = [
    "bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--unshare-all",
    "--die-with-parent", "--new-session",
]  # fmt: skip
WORKERS = 2
"""Of the judging, as many as the reference machine has cores."""

PYTHON = str(Path(sys.base_prefix, "bin/python3"))
"""The interpreter that slots have too, outside any virtual environment: what its `site` imports differs."""

Way = Callable[[], Awaitable[None]]


@dataclass
class Cost:
    """One execution's milliseconds, by round."""

    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])


EXACT_CPU = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")
"""Nanoseconds of all processes, by the scheduler's own clock. `/proc/stat` counts by ticks, between which much of what
takes a few milliseconds begins and ends."""


def machine_cpu() -> float:
    """Seconds that all cores have worked since the machine started."""
    if EXACT_CPU.is_file():
        return int(EXACT_CPU.read_text()) / 1e9
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, _steal = ticks
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


async def command(argv: Sequence[str]) -> None:
    """Run a command that must succeed."""
    process = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    if await process.wait():
        raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}")


def running(argv: Sequence[str]) -> Way:
    return lambda: command(argv)


def fresh_python(backend: SlotBackend) -> Way:
    """A box of its own for each execution, as each verdict has."""

    async def run() -> None:
        async with await backend.start(SandboxSpec()) as box:
            _succeeded(await box.python("pass"))

    return run


def inside(box: Sandbox, *, warm: bool) -> Way:
    async def run() -> None:
        _succeeded(await (box.python("pass") if warm else box.exec(PASS)))

    return run


def _succeeded(result: Any) -> None:
    if not result.ok:
        raise RuntimeError(f"pass ended otherwise: {result}")


async def ways(stack: AsyncExitStack, docker: bool) -> dict[str, tuple[Way, int]]:
    """Each way that this machine has, and how often a round runs it."""
    slots = SlotBackend()
    stack.push_async_callback(slots.close)
    box = await stack.enter_async_context(await slots.start(SandboxSpec()))
    found: dict[str, tuple[Way, int]] = {
        "bare python": (running([PYTHON, "-c", "pass"]), MANY),
        "slot, warm": (inside(box, warm=True), MANY),
        "slot, warm, a box each": (fresh_python(slots), MANY),
        "slot, exec": (inside(box, warm=False), MANY),
    }
    if shutil.which("bwrap"):
        found["bwrap"] = (running([*BWRAP, PYTHON, "-c", "pass"]), MANY)
    else:
        say("bwrap is not installed: left out")
    if docker:
        containers = DockerBackend()
        if isinstance(why := await containers.available(), str):
            sys.exit(f"{why} Or leave it out with --skip-docker.")
        held = await stack.enter_async_context(await containers.start(SandboxSpec()))
        found["docker exec"] = (inside(held, warm=False), FEW)
        found["docker run, hardened"] = (running(["docker", "run", *HARDENED, IMAGE, *PASS]), FEW)
    return found


async def executions(rounds: int, docker: bool) -> dict[str, Cost]:
    """All ways in turn, `rounds` times."""
    async with AsyncExitStack() as stack:
        found = await ways(stack, docker)
        for way, _ in found.values():
            await way()
        costs = {name: Cost() for name in found}
        idle = await _idle()
        for number in range(rounds):
            for name, (way, times) in found.items():
                began, cpu = time.perf_counter(), machine_cpu()
                for _ in range(times):
                    await way()
                wall = time.perf_counter() - began
                costs[name].wall.append(wall / times * 1000)
                costs[name].cpu.append((machine_cpu() - cpu - idle * wall) / times * 1000)
            say(f"round {number + 1} of {rounds}")
        return costs


async def _idle(seconds: float = 2.0) -> float:
    """CPU seconds a second that the machine takes for nothing."""
    cpu = machine_cpu()
    await asyncio.sleep(seconds)
    return (machine_cpu() - cpu) / seconds


def table(costs: dict[str, Cost]) -> str:
    """Medians, and how often each goes into `docker run`."""
    unit = costs.get("docker run, hardened")
    lines = [f"{'':<24}{'wall ms':>9}{'CPU ms':>9}{'x wall':>9}{'x CPU':>9}"]
    for name, cost in costs.items():
        wall, cpu = median(cost.wall), median(cost.cpu)
        times = [""] * 2 if unit is None else [f"{median(unit.wall) / wall:.1f}", f"{median(unit.cpu) / cpu:.1f}"]
        lines.append(f"{name:<24}{wall:>9.1f}{cpu:>9.1f}{times[0]:>9}{times[1]:>9}")
    return "\n".join(lines)


async def judging(data: Path, *, repeats: int) -> list[tuple[float, float]]:
    """(CPU seconds of judging HumanEval's own solutions by `WORKERS` at once, of running them bare), by repeat."""
    from envkit.verify.code import judge_asserts

    rows = [json.loads(line) for line in gzip.decompress(data.read_bytes()).splitlines()]  # noqa: ASYNC240 - before anything is awaited
    slots = SlotBackend(idle=2 * WORKERS)

    def fresh() -> AbstractAsyncContextManager[Sandbox]:
        return _box(slots)

    async def judged(row: dict[str, Any]) -> None:
        source, tests = row["prompt"] + row["canonical_solution"], f"{row['test']}\ncheck(candidate)"
        limits = ExecLimits(wall=30, cpu=30)
        if not await judge_asserts(
            fresh, source, tests, function=row["entry_point"], context=row["prompt"], limits=limits
        ):
            raise RuntimeError(f"{row['task_id']}: its own solution was judged wrong")

    with tempfile.TemporaryDirectory() as folder:

        async def bare(row: dict[str, Any]) -> None:
            path = Path(folder) / f"{row['entry_point']}.py"
            test = f"{row['test']}\ncheck({row['entry_point']})\n"
            path.write_text(f"{row['prompt']}{row['canonical_solution']}\n{test}", encoding="utf-8")
            await command([PYTHON, str(path)])

        measured: list[tuple[float, float]] = []
        for number in range(repeats):
            idle = await _idle()
            measured.append((await _cpu_of(judged, rows, idle), await _cpu_of(bare, rows, idle)))
            say(f"judging: repeat {number + 1} of {repeats}")
    await slots.close()
    return measured


@asynccontextmanager
async def _box(slots: SlotBackend) -> AsyncGenerator[Sandbox]:
    async with await slots.start(SandboxSpec()) as box:
        yield box


async def _cpu_of(work: Callable[[Any], Awaitable[None]], rows: Sequence[Any], idle: float) -> float:
    began, cpu, left = time.perf_counter(), machine_cpu(), iter(rows)

    async def worker() -> None:
        for row in left:
            await work(row)

    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return machine_cpu() - cpu - idle * (time.perf_counter() - began)


def targets(costs: dict[str, Cost], judged: Sequence[tuple[float, float]]) -> list[tuple[str, float, str, bool]]:
    """(figure, value, bound, whether it is met)."""
    warm = costs["slot, warm"]
    figures = [("slot, warm: CPU ms", median(warm.cpu), "<= 9", median(warm.cpu) <= 9)]
    if (unit := costs.get("docker run, hardened")) is not None:
        by_cpu, by_wall = median(unit.cpu) / median(warm.cpu), median(unit.wall) / median(warm.wall)
        figures += [
            ("docker run : slot, CPU", by_cpu, ">= 35", by_cpu >= 35),
            ("docker run : slot, wall", by_wall, ">= 20", by_wall >= 20),
        ]
    if judged:
        times = median(ours / bare for ours, bare in judged)
        figures.append(("judging HumanEval : bare", times, "<= 3", times <= 3))
    return figures


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--skip-docker", action="store_true", help="without docker exec, docker run and the ratios")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round as JSON")
    options = parser.parse_args()
    costs = asyncio.run(executions(options.rounds, not options.skip_docker))
    shared = Path(os.environ.get("ENVKIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    data = shared / "data/HumanEval.jsonl.gz"
    judged: list[tuple[float, float]] = []
    if data.is_file():
        judged = asyncio.run(judging(data, repeats=max(1, options.rounds // 3)))
    else:
        say(f"HumanEval is not at {data}: set ENVKIT_SHARED. What judging costs is left out.")
    print(table(costs))
    for name, value, bound, met in targets(costs, judged):
        print(f"{name:<28}{value:>8.2f}  {bound:<6} {'yes' if met else 'NO'}")
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if options.json is not None:
        record = {name: {"wall_ms": cost.wall, "cpu_ms": cost.cpu} for name, cost in costs.items()}
        options.json.write_text(json.dumps({"executions": record, "judging_cpu_s": judged}, indent=2) + "\n")


if __name__ == "__main__":
    main()
