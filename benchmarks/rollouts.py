"""What a rollout costs the client: envkit beside verifiers and inspect-ai, against one local server, on MATH-500.

    python benchmarks/rollouts.py [--quick] [--skip-peers] [--json FILE]

Run it with the Python of the environment that envkit is installed in. The peers get virtual environments of their own
in `.bench/`, made at the first run. Costs are marginal: (CPU seconds of a large run - of a small one) for 1,000
rollouts more, so that imports and start-up do not count; `benchmarks/README.md` says how each figure is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any

from measure import Usage, measure

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PEERS = HERE / "peers"
ENVIRONMENTS = REPOSITORY / ".bench"
BIN = Path(sys.executable).parent

VERIFIERS, INSPECT = "verifiers==0.4.0", "inspect-ai==0.3.285"
MATH_VERIFY = "math-verify==0.9.0"
"""The same verifier of answers in both peers."""

CONCURRENCY, LATENCY = 32, 20
"""Of the comparison; 20 ms are long enough that 32 requests are in flight, and short enough to be no wait."""
MANY, LONG = 2048, 1000
"""Of the figures of many rollouts at once."""

SYSTEMS = ("envkit", "verifiers", "inspect-ai", "floor")


@dataclass(frozen=True)
class Sizes:
    """How many rollouts a small and a large run have, and how often each pair is run."""

    compared: tuple[int, int] = (500, 1500)
    crowded: tuple[int, int] = (2000, 6000)
    fresh: tuple[int, int] = (100, 500)
    unscored: tuple[int, int] = (1000, 5000)
    """Far apart, for start-up varies by as much as a hundred of these rollouts take."""
    repeats: int = 5
    peer_repeats: int = 2
    crowd_repeats: int = 3

    @classmethod
    def quick(cls) -> Sizes:
        return cls(
            compared=(100, 500), crowded=(2000, 4000), unscored=(500, 2000), repeats=2, peer_repeats=1, crowd_repeats=1
        )


@dataclass
class Figure:
    """One line of the table: a value for each system that has one, and the bound for envkit's."""

    name: str
    unit: str
    values: dict[str, float] = field(default_factory=dict[str, float])
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        value = self.values.get("envkit")
        if value is None or (self.at_most is None and self.at_least is None):
            return None
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


class Bench:
    """The server, the rows and a scratch folder; runs one system once and checks that it did what was asked."""

    def __init__(self, rows: Path, scratch: Path, port: int) -> None:
        self.rows, self.scratch, self.port = rows, scratch, port
        self.runs = 0
        self.samples: list[dict[str, Any]] = []
        """Every marginal cost that went into a median, with how it was taken."""

    def url(self, mode: str, latency: int) -> str:
        return f"http://127.0.0.1:{self.port}/{mode}/{latency}/v1"

    def run(self, system: str, n: int, *, mode: str = "right", c: int = CONCURRENCY, latency: int = LATENCY) -> Usage:
        """One run of `n` rollouts. RuntimeError where it failed, or scored other than the server answered."""
        self.runs += 1
        out = self.scratch / f"{self.runs}"
        argv = _COMMANDS[system](self.url(mode, latency), str(self.rows), str(n), str(c), str(out))
        env = {"PYTHONPATH": str(PEERS), "BENCH_KEY": "none"} if system == "verifiers" else {}
        usage = measure(argv, env=env, cwd=self.scratch)
        _check(system, usage.said, n, mode)
        shutil.rmtree(out, ignore_errors=True)
        say(f"  {system:<16} {n:>5} rollouts  {mode:<5} c={c:<5} {usage.cpu:7.2f} CPU s {usage.wall:7.2f} s")
        return usage

    def seen(self) -> dict[str, float]:
        """What the server saw since it was last asked."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats") as response:
            return json.loads(response.read())

    def marginal(
        self, plan: Mapping[str, int], sizes: tuple[int, int], *, mode: str = "right", **how: int
    ) -> dict[str, float]:
        """CPU seconds for 1,000 rollouts more, by system: the median over its repeats, all systems in turn."""
        spent: dict[str, list[float]] = {system: [] for system in plan}
        small, large = sizes
        for repeat in range(max(plan.values())):
            for system in (system for system, repeats in plan.items() if repeat < repeats):
                less, more = (self.run(system, n, mode=mode, **how).cpu for n in sizes)
                spent[system].append((more - less) / (large - small) * 1000)
        self.samples.append({"mode": mode, "sizes": list(sizes), **how, "costs": spent})
        return {system: median(values) for system, values in spent.items()}


def _check(system: str, said: Any, n: int, mode: str) -> None:
    """RuntimeError where a run's own result is not `n` rollouts, all right or all wrong as the server answered; an
    answer in fifty may be judged otherwise, or not at all."""
    if not isinstance(said, dict):
        raise RuntimeError(f"{system} printed no result")
    if system == "envkit":
        done, right = said["rollouts"] - said["failed"], (said["mean"] or 0.0) * said["scored"]
    else:
        done, right = said["rollouts"], said.get("right")
        right = right * n if system == "inspect-ai" and right is not None else right
    wanted = n if mode == "right" else 0
    if done != n or (right is not None and abs(right - wanted) > n * 0.02):
        raise RuntimeError(
            f"{system} finished {done} of {n} rollouts, {right} of them right where {wanted} are: {said}"
        )


def _envkit(url: str, rows: str, n: str, c: str, out: str) -> list[str]:
    command = [str(BIN / "envkit"), "eval", "math-500", "-e", url, "--data", rows, "-k", "1", "-n", n]
    return [*command, "--concurrency", c, "--out", out, "--json"]


def _script(python: Path, name: str, *more: str) -> Callable[..., list[str]]:
    return lambda url, rows, n, c, out: [str(python), str(PEERS / name), url, rows, n, c, *(more or (out,))]


_COMMANDS: dict[str, Callable[[str, str, str, str, str], list[str]]] = {
    "envkit": _envkit,
    "envkit-unscored": _script(BIN / "python", "unscored.py"),
    "verifiers": _script(ENVIRONMENTS / "verifiers/bin/python", "verifiers_math.py"),
    "inspect-ai": _script(ENVIRONMENTS / "inspect-ai/bin/python", "inspect_math.py"),
    "floor": _script(BIN / "python", "floor.py", "score"),
    "floor-unscored": _script(BIN / "python", "floor.py", "plain"),
}


def compared(bench: Bench, sizes: Sizes, peers: bool) -> Iterator[Figure]:
    """The cost of a rollout at c=32, beside the peers."""
    others = {"verifiers": sizes.peer_repeats, "inspect-ai": sizes.peer_repeats} if peers else {}
    right = bench.marginal({"envkit": sizes.repeats, **others, "floor": 1}, sizes.compared)
    yield Figure("right replies", "CPU s / 1,000", right, at_most=1.0)
    for peer, times in (("verifiers", 20.0), ("inspect-ai", 26.0)):
        if peer in right:
            yield Figure(f"{peer} : envkit", "times", {"envkit": right[peer] / right["envkit"]}, at_least=times)
    wrong = bench.marginal(
        {"envkit": sizes.repeats, **dict.fromkeys(others, 1), "floor": 1}, sizes.compared, mode="wrong"
    )
    yield Figure("every reply wrong, none repeats", "CPU s / 1,000", wrong, at_most=1.0)
    fresh = bench.marginal({"envkit": sizes.repeats}, sizes.fresh)
    yield Figure("right replies, no task twice", "CPU s / 1,000", fresh, at_most=1.0)
    plain = bench.marginal({"envkit-unscored": sizes.repeats, "floor-unscored": sizes.repeats}, sizes.unscored)
    yield Figure("scoring off", "CPU s / 1,000", _plain(plain), at_most=0.3)


def crowded(bench: Bench, sizes: Sizes) -> Iterator[Figure]:
    """Cost, rollouts in flight, time and memory at c=2048."""
    for name, system in (("", "envkit"), (", scoring off", "envkit-unscored")):
        plan = {system: sizes.crowd_repeats}
        few = bench.marginal(plan, sizes.crowded)[system]
        many = bench.marginal(plan, sizes.crowded, c=MANY, latency=LONG)[system]
        yield Figure(f"cost at c=2048 : at c=32{name}", "times", {"envkit": many / few}, at_most=1.2)
    for name, system in (("", "envkit"), (", scoring off", "envkit-unscored")):
        n, flights, seconds, megabytes = 2000, list[float](), list[float](), list[float]()
        for _ in range(sizes.crowd_repeats):
            few = bench.run(system, n)
            bench.seen()
            many = bench.run(system, n, c=MANY, latency=LONG)
            seen = bench.seen()
            flights.append(seen["max_in_flight"])
            seconds.append(seen["seconds"])
            megabytes.append((many.peak_mb - few.peak_mb) / (n - CONCURRENCY) * 1000)
        yield Figure(f"in flight at once, of 2,000{name}", "rollouts", {"envkit": median(flights)}, at_least=2000)
        if system == "envkit-unscored":
            ideal = LONG / 1000
            yield Figure("last reply : ideal, scoring off", "times", {"envkit": median(seconds) / ideal}, at_most=2.0)
        yield Figure(f"memory{name}", "MB / 1,000 at once", {"envkit": median(megabytes)}, at_most=25.0)


def start_up(repeats: int = 5) -> Iterator[Figure]:
    """What a user waits for before anything happens; the interpreter's own start is in it."""
    shown = median(measure([str(BIN / "envkit"), "--help"]).cpu for _ in range(repeats))
    yield Figure("envkit --help", "CPU s", {"envkit": shown}, at_most=0.25)
    imported = median(measure([sys.executable, "-c", "import envkit"]).cpu for _ in range(repeats))
    yield Figure("import envkit", "CPU s", {"envkit": imported}, at_most=0.15)


def _plain(values: Mapping[str, float]) -> dict[str, float]:
    return {system.removesuffix("-unscored"): value for system, value in values.items()}


def make_environments() -> None:
    """A virtual environment for each peer, unless it is there already."""
    for name, requirements in (
        ("verifiers", [VERIFIERS, MATH_VERIFY]),
        ("inspect-ai", [INSPECT, MATH_VERIFY, "openai"]),
    ):
        folder = ENVIRONMENTS / name
        made = folder / "made.txt"
        if made.is_file() and made.read_text().split() == requirements:
            continue
        say(f"making .bench/{name}: {', '.join(requirements)}")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} could not be installed:\n{done.stderr[-3000:]}")
        made.write_text("\n".join(requirements) + "\n")


def repeated(source: Path, target: Path, count: int) -> None:
    """Write `count` rows: those of `source`, again and again, each with an id of its own."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    with target.open("w", encoding="utf-8") as file:
        for index, row in islice(enumerate(rows * (count // len(rows) + 1)), count):
            file.write(json.dumps(row | {"unique_id": f"{row['unique_id']}#{index // len(rows)}"}) + "\n")


@contextmanager
def served(script: str, *args: object) -> Iterator[int]:
    """A server of its own process, which counts for nobody; the port that it prints."""
    argv = [sys.executable, str(HERE / script), *map(str, args)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def table(figures: Sequence[Figure]) -> str:
    """The figures as text, one a line."""
    lines = [["figure", "unit", *SYSTEMS, "target", "met"]]
    for figure in figures:
        bound = "" if figure.at_most is None else f"≤ {figure.at_most:g}"
        bound = bound if figure.at_least is None else f"≥ {figure.at_least:g}"
        values = [_shown(figure.values.get(system)) for system in SYSTEMS]
        lines.append([figure.name, figure.unit, *values, bound, {True: "yes", False: "NO", None: ""}[figure.met]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:.2f}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats: rough figures in 3 minutes")
    parser.add_argument("--skip-peers", action="store_true", help="only envkit and the floor")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    options = parser.parse_args()
    source = Path(os.environ.get("ENVKIT_SHARED", REPOSITORY.parent / "shared")) / "data/math500.jsonl"
    if not source.is_file():
        sys.exit(f"MATH-500 is not at {source}: set ENVKIT_SHARED to the folder that holds data/math500.jsonl.")
    sizes = Sizes.quick() if options.quick else Sizes()
    if not options.skip_peers:
        make_environments()
    began = time.perf_counter()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="envkit-bench-") as scratch, served("server.py", source) as port:
        rows = Path(scratch) / "math500.jsonl"
        repeated(source, rows, max(*sizes.compared, *sizes.crowded, *sizes.unscored))
        bench = Bench(rows, Path(scratch), port)
        for figure in chain(start_up(), compared(bench, sizes, not options.skip_peers), crowded(bench, sizes)):
            say(f"{figure.name}: {', '.join(f'{who} {_shown(value)}' for who, value in figure.values.items())}")
            figures.append(figure)
    said = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{table(figures)}\n\n{VERIFIERS}, {INSPECT}; {said}; {time.perf_counter() - began:.0f} s")
    if options.json is not None:
        kept = [asdict(figure) | {"met": figure.met} for figure in figures]
        record = {"machine": said, "sizes": asdict(sizes), "figures": kept, "samples": bench.samples}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
