"""`envkit sandbox`: whether untrusted programs can be run here, one run by hand, a suite of attacks on a backend."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envkit.cli import exits
from envkit.cli.console import columns, say, write, write_json

if TYPE_CHECKING:
    from envkit.sandbox.base import Backend, ExecResult, SandboxSpec
    from envkit.sandbox.conformance import Outcome
    from envkit.sandbox.doctor import Finding

sandbox = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the sandboxes of this machine.")

BackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="Which one; default: the first that works.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

ENDED = {"timeout": 124, "memory": 137, "output": 125, "killed": 137}
"""The exit code of `run` where the program did not end by itself, as `timeout` and shells have it."""


@sandbox.command()
def doctor(as_json: Json = False) -> None:
    """Show which backends work here, what they can do, and what to do about the others; exit 3 where none isolates."""
    import asyncio

    from envkit.sandbox import find
    from envkit.sandbox.doctor import examine

    async def all_of_them() -> list[Finding]:
        variants = [(name, *(f"{name}:{word}" for word in find.VARIANTS.get(name, ()))) for name in find.names()]
        return [await examine(name) for names in variants for name in names]

    findings = asyncio.run(all_of_them())
    isolated = [found.name for found in findings if found.capabilities is not None and found.capabilities.isolated]
    if as_json:
        write_json({"works": bool(isolated), "default": isolated[0] if isolated else None} | _as_json(findings))
    else:
        write(columns([_row(found) for found in findings]))
        for found in findings:
            for note in [found.why] if found.why else found.capabilities.notes if found.capabilities else ():
                write(f"\n{found.name}: {note}")
    if not isolated:
        say("\nNo sandbox works here: programs of a model cannot be run. See above for what to do.")
        raise typer.Exit(exits.GATE)
    say(f"\n{isolated[0]} is used where nothing else is said. Try it: envkit sandbox run -- python3 -c 'print(6 * 7)'")


@sandbox.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The program and its arguments.")],
    backend: BackendOption = None,
    unsafe_sandbox: Annotated[
        bool, typer.Option("--unsafe-sandbox", help="Run it as you, isolated from nothing.")
    ] = False,
    image: Annotated[str | None, typer.Option("--image", help="The backend's word for a root file system.")] = None,
    network: Annotated[
        str, typer.Option("--network", metavar="none|loopback|open|HOST,HOST", help="What it may reach.")
    ] = "none",
    wall: Annotated[float, typer.Option("--wall", min=0.001, help="Seconds by the clock.")] = 10.0,
    cpu: Annotated[float | None, typer.Option("--cpu", min=0.001, help="Seconds of processor time; as --wall.")] = None,
    memory: Annotated[str, typer.Option("--memory", metavar="BYTES", help="As 512M or 2G.")] = "1G",
) -> None:
    """Run one program in a new box, with this command's stdin, and end with its exit code.

    124 says that it ran out of time, 137 out of memory or was killed, 125 that it wrote too much, 128 + n that signal
    n ended it.
    """
    import asyncio

    from envkit.cli.running import sandbox_of
    from envkit.sandbox.base import ExecLimits, SandboxSpec

    limits = ExecLimits(wall=wall, cpu=cpu or wall, memory=_bytes(memory), output=64 << 20)
    spec = SandboxSpec(image=image, network=_network(network), limits=limits, lifetime=wall + 300)
    stdin = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    result = asyncio.run(_run(sandbox_of(backend, unsafe=unsafe_sandbox), spec, command, stdin))
    _pass_on(result.stdout, sys.stdout)
    _pass_on(result.stderr, sys.stderr)
    if result.reason != "exit":
        say(f"envkit: {_HOW[result.reason]} (after {result.wall:.1f} s)")
        raise typer.Exit(ENDED[result.reason])
    raise typer.Exit(128 + (result.signal or 0) if result.code is None else result.code)


@sandbox.command()
def conformance(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A manifest.jsonl and the programs that it names.")],
    backend: BackendOption = None,
    as_json: Json = False,
) -> None:
    """Run a suite of attacks against a backend; exit 3 where one gets out, or a hack is judged right."""
    import asyncio

    from envkit.sandbox.conformance import HACK, read_suite

    attacks = read_suite(folder)
    outcomes = asyncio.run(_conform(folder, attacks, backend, quiet=as_json))
    held = [outcome for outcome in outcomes if not outcome.complaints]
    if as_json:
        rows = [
            {
                "file": outcome.attack.file,
                "class": outcome.attack.kind,
                "held": not outcome.complaints,
                "complaints": outcome.complaints,
                "seconds": round(outcome.seconds, 3),
            }
            for outcome in outcomes
        ]
        write_json({"held": len(held), "programs": len(outcomes), "outcomes": rows})
    hacks = [outcome for outcome in outcomes if outcome.attack.kind == HACK]
    fooled = sum(bool(outcome.complaints) for outcome in hacks)
    contained = len(held) - (len(hacks) - fooled)
    say(
        f"\n{contained} of {len(outcomes) - len(hacks)} attacks contained, the judges fooled by {fooled} of "
        f"{len(hacks)} hacks; right answers are accepted, and every next program ran."
    )
    if len(held) < len(outcomes):
        raise typer.Exit(exits.GATE)


async def _conform(folder: Path, attacks: Any, name: str | None, *, quiet: bool) -> list[Outcome]:
    from envkit.sandbox import find
    from envkit.sandbox.conformance import conform

    backend = await find.choose() if name is None else find.backend(name, unsafe=name == find.UNSAFE)
    outcomes: list[Outcome] = []
    try:
        async for outcome in conform(backend, folder, attacks):
            outcomes.append(outcome)
            if not quiet:
                mark = "FAIL" if outcome.complaints else " ok "
                told = f": {'; '.join(outcome.complaints)}" if outcome.complaints else ""
                write(f"{mark}  {outcome.attack.kind:<10} {outcome.seconds:6.2f} s  {outcome.attack.file}{told}")
    finally:
        await backend.close()
    return outcomes


async def _run(backend: Backend | str | None, spec: SandboxSpec, command: list[str], stdin: bytes) -> ExecResult:
    from envkit.sandbox.pool import Boxes

    boxes = Boxes(backend)
    try:
        box = await boxes.take(spec, boxes.place(grading=False))
        return await box.exec(command, stdin=stdin)
    finally:
        await boxes.close()


def _pass_on(data: bytes, stream: Any) -> None:
    """The program's bytes as they are; on a terminal nothing of them may steer it."""
    from envkit.terminal import clean

    if stream.isatty():
        stream.write(clean(data.decode("utf-8", "replace")))
    else:
        stream.buffer.write(data)
    stream.flush()


def _row(found: Finding) -> list[str]:
    able = found.capabilities
    if able is None:
        return [found.name, "no", "see below", ""]
    if not able.isolated:
        return [found.name, "unsafe", "only with --unsafe-sandbox", ""]
    does = [f"network {', '.join(sorted(able.network))}"]
    does += [name for name in ("images", "root", "ports") if getattr(able, name)]
    does.append("memory of all processes" if able.memory else "memory of each process only")
    took = f"{found.python}, a box in {found.start or 0:.2f} s, a program in {found.run or 0:.3f} s"
    return [found.name, "works", "; ".join(does), took]


def _as_json(findings: list[Finding]) -> dict[str, Any]:
    from dataclasses import asdict

    told = [asdict(found) for found in findings]
    for row in told:
        if (able := row["capabilities"]) is not None:
            able["network"] = sorted(able["network"])
    return {"backends": told}


def _network(said: str) -> Any:
    from envkit.sandbox.base import Allow

    return said if said in ("none", "loopback", "open") else Allow(hosts=tuple(said.split(",")))


def _bytes(said: str) -> int:
    from envkit.errors import UsageError

    number, factor = said.rstrip("BbIi"), 1
    if number and number[-1] in "KkMmGg":
        factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[number[-1].lower()]
        number = number[:-1]
    try:
        count = int(float(number) * factor)
    except ValueError:
        count = 0
    if count <= 0:
        raise UsageError(f"--memory {said}: a number of bytes was due, as 536870912, 512M or 2G.")
    return count


_HOW = {
    "timeout": "it ran out of time",
    "memory": "it ran out of memory",
    "output": "it wrote more than 64 MiB",
    "killed": "it was killed",
}
