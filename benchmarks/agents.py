"""What a turn with a tool call costs the client, beside verifiers, and many episodes of a tool agent at once.

    python benchmarks/agents.py [--quick] [--skip-peers] [--json FILE]

Run it with the Python of the environment that envkit is installed in; `benchmarks/README.md` says how each figure is
taken. verifiers gets a virtual environment of its own in `.bench/`, made at the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import median

from measure import Usage, measure
from rollouts import BIN, ENVIRONMENTS, PEERS, VERIFIERS, Figure, make_environments, say, served, table

CONCURRENCY, LATENCY = 16, 20
DESKS, ERRANDS = 200, 9
"""Customers at once, and what each of them wants, one thing after another: some 30 turns of the agent."""
PYTHON = {
    "envkit": (BIN / "python", "turns.py"),
    "verifiers": (ENVIRONMENTS / "verifiers/bin/python", "verifiers_turns.py"),
    "floor": (BIN / "python", "floor_turns.py"),
}


@dataclass(frozen=True)
class Sizes:
    """How many episodes, the turns of a short and of a long one, and how often each pair is run."""

    episodes: int = 100
    turns: tuple[int, int] = (5, 25)
    repeats: int = 5
    peer_repeats: int = 2

    @classmethod
    def quick(cls) -> Sizes:
        return cls(episodes=50, repeats=2, peer_repeats=1)


class Bench:
    """The server and a scratch folder; runs one system once and checks that it did what was asked."""

    def __init__(self, scratch: Path, port: int) -> None:
        self.scratch, self.port = scratch, port
        self.runs = 0

    def run(self, system: str, episodes: int, turns: int) -> Usage:
        """One run of `episodes` with so many tool calls each. RuntimeError where it made any other number of them."""
        self.runs += 1
        out = self.scratch / str(self.runs)
        url = f"http://127.0.0.1:{self.port}/calls-{turns}/{LATENCY}/v1"
        python, script = PYTHON[system]
        env = {"PYTHONPATH": str(PEERS), "BENCH_KEY": "none"} if system == "verifiers" else {}
        argv = [str(python), str(PEERS / script), url, str(episodes), str(CONCURRENCY), str(out)]
        usage = measure(argv, env=env, cwd=self.scratch)
        if usage.said != {"rollouts": episodes, "calls": turns}:
            raise RuntimeError(f"{system} was to make {turns} calls in each of {episodes} episodes: {usage.said}")
        shutil.rmtree(out, ignore_errors=True)
        say(f"  {system:<10} {episodes:>4} episodes of {turns:>3} calls {usage.cpu:7.2f} CPU s {usage.wall:7.2f} s")
        return usage

    def marginal(self, plan: Mapping[str, int], sizes: Sizes) -> dict[str, float]:
        """CPU milliseconds of one turn more, by system: the median over its repeats, all systems in turn."""
        spent: dict[str, list[float]] = {system: [] for system in plan}
        few, many = sizes.turns
        for repeat in range(max(plan.values())):
            for system in (system for system, repeats in plan.items() if repeat < repeats):
                less, more = (self.run(system, sizes.episodes, turns).cpu for turns in sizes.turns)
                spent[system].append((more - less) / (many - few) / sizes.episodes * 1000)
        return {system: median(values) for system, values in spent.items()}


def turns(bench: Bench, sizes: Sizes, peers: bool) -> Iterator[Figure]:
    """The cost of one more turn with a tool call, beside the peers."""
    plan = {"envkit": sizes.repeats, "floor": sizes.repeats}
    cost = bench.marginal(plan | ({"verifiers": sizes.peer_repeats} if peers else {}), sizes)
    yield Figure("one more turn with a tool call", "CPU ms", cost)
    if peers:
        yield Figure("verifiers : envkit", "times", {"envkit": cost["verifiers"] / cost["envkit"]}, at_least=10.0)


def desks(scratch: Path) -> Iterator[Figure]:
    """Episodes of retail-desk at once, each with a database of its own, which the reward compares row by row."""
    with served("desk_server.py", DESKS, ERRANDS) as port:
        few, many = (desk_run(scratch, port, at_once) for at_once in (8, DESKS))
    turns = many.said["metrics"]["turns"] * DESKS
    yield Figure("desks at once, all resolved", "share", {"envkit": many.said["mean"]}, at_least=1.0)
    yield Figure("turns of a desk", "turns", {"envkit": many.said["metrics"]["turns"]}, at_least=30.0)
    yield Figure("turns a second", "turns / s", {"envkit": turns / many.said["seconds"]})
    yield Figure("a turn at a desk", "CPU ms", {"envkit": many.cpu / turns * 1000})
    yield Figure("memory of a desk", "MB", {"envkit": (many.peak_mb - few.peak_mb) / (DESKS - 8)})


def desk_run(scratch: Path, port: int, at_once: int) -> Usage:
    """All desks once; RuntimeError where not every rollout came to its end."""
    out = scratch / f"desks-{at_once}"
    argv = [str(BIN / "envkit"), "eval", "retail-desk", "-e", f"http://127.0.0.1:{port}/v1", "-k", "1", "--json"]
    argv += ["-n", str(DESKS), "-a", "families=several", "-a", f"n={DESKS}", "-a", f"requests={ERRANDS}"]
    usage = measure([*argv, "--concurrency", str(at_once), "--out", str(out)], cwd=scratch)
    if usage.said["scored"] != DESKS:
        raise RuntimeError(f"{usage.said['scored']} of {DESKS} desks were scored: {usage.said}")
    say(f"  {at_once:>3} desks at once {usage.cpu:7.2f} CPU s {usage.wall:7.2f} s {usage.peak_mb:7.1f} MB")
    return usage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats: rough figures")
    parser.add_argument("--skip-peers", action="store_true", help="only envkit and the floor")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    options = parser.parse_args()
    sizes = Sizes.quick() if options.quick else Sizes()
    if not options.skip_peers:
        make_environments()
    began = time.perf_counter()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="envkit-bench-") as scratch:
        rows = Path(scratch) / "none.jsonl"
        rows.touch()
        with served("server.py", rows) as port:
            bench = Bench(Path(scratch), port)
            for figure in chain(turns(bench, sizes, not options.skip_peers), desks(Path(scratch))):
                say(f"{figure.name}: {', '.join(f'{who} {value:.3g}' for who, value in figure.values.items())}")
                figures.append(figure)
    said = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{table(figures)}\n\n{VERIFIERS}; {said}; {time.perf_counter() - began:.0f} s")
    if options.json is not None:
        kept = [asdict(figure) | {"met": figure.met} for figure in figures]
        options.json.write_text(json.dumps({"machine": said, "sizes": asdict(sizes), "figures": kept}, indent=2) + "\n")


if __name__ == "__main__":
    main()
