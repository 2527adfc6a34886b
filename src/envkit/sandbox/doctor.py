"""What each backend is good for on this machine, found out by using it: a box is started and a program run in it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from envkit.errors import InfraError, UsageError
from envkit.sandbox import find
from envkit.sandbox.base import Capabilities, SandboxSpec
from envkit.sandbox.pool import INTERPRETER

LONGEST = 120.0
"""Seconds for one backend to say what it can, start a box and run a program."""


@dataclass(frozen=True)
class Finding:
    """A backend that works has `capabilities`, and one that isolates its `python` and two times in seconds: for a
    first box, and for a program in it. One that does not has `why`."""

    name: str
    capabilities: Capabilities | None = None
    why: str | None = None
    python: str | None = None
    start: float | None = None
    run: float | None = None


async def examine(name: str) -> Finding:
    """Use a backend once. Nothing is run in one that isolates nothing."""
    try:
        async with asyncio.timeout(LONGEST):
            return await _examine(name)
    except (UsageError, InfraError) as error:
        return Finding(name, why=str(error))
    except TimeoutError:
        return Finding(name, why=f"It came to no end in {LONGEST:g} s.")
    except Exception as error:  # noqa: BLE001 - another distribution's code
        return Finding(name, why=f"The backend {name!r} broke: {error!r}")


async def _examine(name: str) -> Finding:
    backend = find.backend(name, unsafe=name == find.UNSAFE)
    try:
        found = await find.able(backend)
        if isinstance(found, str):
            return Finding(name, why=found)
        if not found.isolated:
            return Finding(name, found)
        begun = time.perf_counter()
        async with await backend.start(SandboxSpec()) as box:
            started = time.perf_counter()
            result = await box.python(INTERPRETER)
            ended = time.perf_counter()
        words = result.stdout.decode("utf-8", "replace").split()
        if not result.ok or words[-1:] != ["42"]:
            return Finding(name, why=f"A box starts, but a program that must print 42 did not: {result!r}"[:400])
        return Finding(name, found, None, " ".join(words[:-1]), started - begun, ended - started)
    finally:
        await backend.close()
