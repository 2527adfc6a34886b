"""What tests of the slot share: one backend for each, skipped where the machine cannot run slots."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from envkit.sandbox.base import Capabilities, MiB, SandboxSpec
from envkit.sandbox.slot.backend import SlotBackend
from envkit.sandbox.slot.box import SlotBox


@asynccontextmanager
async def slots(*, idle: int | None = None) -> AsyncGenerator[tuple[SlotBackend, Capabilities]]:
    """A backend that has run its positive control, closed afterwards."""
    backend = SlotBackend(idle=idle)
    try:
        found = await backend.available()
        if isinstance(found, str):
            pytest.skip(found)
        yield backend, found
    finally:
        await backend.close()


@asynccontextmanager
async def box(**spec: object) -> AsyncGenerator[SlotBox]:
    """One box of a backend of its own."""
    async with slots(idle=0) as (backend, _):
        async with await backend.start(SandboxSpec.model_validate(spec)) as opened:
            yield opened


async def assert_healthy(opened: SlotBox) -> None:
    result = await opened.python("print(6 * 7)")
    assert result.ok
    assert result.stdout == b"42\n"


SMALL = {"wall": 5.0, "cpu": 5.0, "memory": 256 * MiB, "pids": 32, "disk": 8 * MiB, "files": 200}
