"""A suite of hostile programs against a backend: what tries to get out stays in, and no hack is judged right.

A suite is a folder with `manifest.jsonl`, a row {file, class, task, expected} for each program beside it. Programs of
the class `hack` are wrong answers (the sum of a list) that must be judged so; all others print `ESCAPED` where they
get what is not theirs. Nothing is concluded before a program that must print 42 did, and a right answer was accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envkit.errors import InfraError, UsageError
from envkit.sandbox import find
from envkit.sandbox.base import Backend, ExecLimits, ExecResult, MiB, Sandbox, SandboxSpec
from envkit.sandbox.canaries import Canaries, canaries
from envkit.verify.code import Call, StdioCase, Verdict, judge_asserts, judge_calls, judge_stdio

HACK = "hack"
LIMITS = ExecLimits(wall=3.0, cpu=3.0, memory=512 * MiB, pids=64, disk=32 * MiB, files=1000)
LATE = 1.5
"""Seconds after its time limit within which a program must be gone."""
HUNG = 60.0
"""Seconds after which the backend itself counts as hung."""

LISTS: tuple[list[int], ...] = ([1, 2], [3, 5, 7], [], [10, 26, 0])
CALLS = [Call("solve", [numbers], expected=sum(numbers)) for numbers in LISTS]
CASES = [StdioCase(f"{len(xs)}\n{' '.join(map(str, xs))}\n", f"{sum(xs)}\n") for xs in LISTS]
TESTS = "".join(f"assert candidate({xs!r}) == {sum(xs)}\n" for xs in LISTS)
RIGHT = {
    "func": "def solve(xs):\n    return sum(xs)\n",
    "stdio": "input()\nprint(sum(map(int, input().split())))\n",
}
LINKS = ("result.json", "output.txt", "stdout", "verdict")
"""Names that a program may have planted as links, for whoever reads results from outside."""


class Attack(BaseModel):
    """One row of a manifest."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(pattern=r"^[\w.-]+$")
    kind: str = Field(alias="class")
    task: str = "none"
    expected: str = ""


class Outcome(NamedTuple):
    """What came of one program; `complaints` is empty where the backend, or the judge, held."""

    attack: Attack
    complaints: tuple[str, ...]
    seconds: float


def read_suite(folder: Path) -> list[Attack]:
    """The rows of a suite's manifest; UsageError where it cannot be read, or a program is missing."""
    manifest = folder / "manifest.jsonl"
    attacks: list[Attack] = []
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{manifest} cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        try:
            attack = Attack.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]
            raise UsageError(f"{manifest}, line {number}: {problem['msg']} at {problem['loc']}.") from error
        if not (folder / attack.file).is_file():
            raise UsageError(f"{manifest}, line {number}: there is no {attack.file} in {folder}.")
        attacks.append(attack)
    if not attacks:
        raise UsageError(f"{manifest} names no programs.")
    return attacks


async def conform(backend: Backend, folder: Path, attacks: Sequence[Attack]) -> AsyncGenerator[Outcome]:
    """Run the programs, one after the other, each in a box of its own.

    UsageError for a backend that isolates nothing; InfraError where a control fails: then nothing can be concluded.
    """
    async with canaries() as put_up:
        found = await find.able(backend)
        if isinstance(found, str):
            raise UsageError(f"The sandbox backend {backend.name!r} cannot be used here: {found}")
        if not found.isolated:
            raise UsageError(
                f"The backend {backend.name!r} isolates nothing: these programs would attack this machine."
            )
        await _positive_control(backend)
        for attack in attacks:
            source = (folder / attack.file).read_text(encoding="utf-8", errors="surrogateescape")
            begun = time.monotonic()
            complaints = await (_judged if attack.kind == HACK else _contained)(backend, attack, source, put_up)
            complaints += await put_up.found()
            yield Outcome(attack, tuple(complaints), time.monotonic() - begun)


async def _positive_control(backend: Backend) -> None:
    """The box runs programs, and the judges accept right answers."""
    if complaint := await _no_box(backend):
        raise InfraError(f"The positive control failed, so that nothing can be concluded: {complaint}.")
    for task, right in RIGHT.items():
        for name, verdict in (await _verdicts(backend, task, right)).items():
            if not verdict.correct:
                raise InfraError(f"{name} rejects a right answer, so that nothing can be concluded: {verdict.reason}.")


async def _contained(backend: Backend, attack: Attack, source: str, put_up: Canaries) -> list[str]:
    """Run it, twice where it may leave files for its second run; then the box, and a new one, must be healthy."""
    complaints: list[str] = []
    for _ in range(2 if attack.kind == "fs" else 1):
        try:
            async with asyncio.timeout(HUNG), _box(backend) as box:
                result = await box.python(source)
                complaints += _telling(result) + put_up.told(result.stdout + result.stderr)
                complaints += await _followed(box)
                if complaint := await _unhealthy(box):
                    complaints.append(f"its box is not healthy afterwards: {complaint}")
        except TimeoutError:
            complaints.append(f"the sandbox hung for {HUNG:g} s")
        except Exception as error:  # noqa: BLE001 - of whatever kind a backend's failures are
            complaints.append(_failed(backend, error))
    if complaint := await _no_box(backend):
        raise InfraError(f"No new box works after {attack.file}, so that nothing more can be concluded: {complaint}.")
    return complaints


def _failed(backend: Backend, error: Exception) -> str:
    return f"the sandbox {backend.name!r} failed: {error if isinstance(error, InfraError) else repr(error)}"


async def _no_box(backend: Backend) -> str | None:
    """Why a new box does not run programs; None where it does."""
    try:
        async with _box(backend) as box:
            return await _unhealthy(box)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        return _failed(backend, error)


def _telling(result: ExecResult) -> list[str]:
    """What is wrong with how it ended, whatever it is."""
    complaints: list[str] = []
    written = result.stdout + result.stderr
    if b"ESCAPED" in written:
        line = next(line for line in written.splitlines() if b"ESCAPED" in line)
        complaints.append(line[:200].decode("utf-8", "replace"))
    if max(len(result.stdout), len(result.stderr)) > LIMITS.output:
        complaints.append("more was kept of its output than its limit")
    if result.wall > LIMITS.wall + LATE:
        complaints.append(f"it ran for {result.wall:.1f} s, with a limit of {LIMITS.wall:g} s")
    return complaints


async def _followed(box: Sandbox) -> list[str]:
    """Links that it planted and that reading from outside followed to something that is not in the box."""
    followed: list[str] = []
    for name in LINKS:
        try:
            outside = await box.read(name)
        except (FileNotFoundError, ValueError):
            continue
        if outside != (await box.exec(["cat", name])).stdout:
            followed.append(f"reading {name} from outside followed a link that it planted")
    return followed


async def _unhealthy(box: Sandbox) -> str | None:
    """Why a program that prints 42 did not; None where it did."""
    result = await box.python("print(6 * 7)")
    if result.ok and result.stdout == b"42\n":
        return None
    last = result.stderr[-300:].decode("utf-8", "replace").strip()
    return f"a program that prints 42 ended with {result.reason} {result.code}: {result.stdout[:80]!r} {last}"


async def _judged(backend: Backend, attack: Attack, source: str, put_up: Canaries) -> list[str]:
    """Have every judge of its kind of task look at it: none may accept it."""
    if attack.task not in RIGHT:
        return [f"there is no judge for tasks of the kind {attack.task!r}"]
    try:
        verdicts = await _verdicts(backend, attack.task, source)
    except Exception as error:  # noqa: BLE001 - as above
        return [f"it could not be judged: {_failed(backend, error)}"]
    return [f"{name} accepts it" for name, verdict in verdicts.items() if verdict.correct]


async def _verdicts(backend: Backend, task: str, source: str) -> dict[str, Verdict]:
    fresh = partial(_box, backend)
    if task == "stdio":
        return {"judge_stdio": await judge_stdio(fresh, source, CASES)}
    return {
        "judge_calls": await judge_calls(fresh, source, CALLS),
        "judge_asserts": await judge_asserts(fresh, source, TESTS, function="solve"),
    }


@asynccontextmanager
async def _box(backend: Backend) -> AsyncGenerator[Sandbox]:
    async with await backend.start(SandboxSpec(limits=LIMITS)) as box:
        yield box
