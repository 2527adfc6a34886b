"""Boxes for the judges' tests: real slots, which have run their positive control; skipped where there can be none."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from envkit.sandbox.base import ExecLimits, Sandbox, SandboxSpec
from envkit.sandbox.slot.backend import SlotBackend
from envkit.verify.code import Fresh


@pytest.fixture
async def fresh() -> AsyncGenerator[Fresh]:
    backend = SlotBackend()
    if isinstance(why := await backend.available(), str):
        await backend.close()
        pytest.skip(why)

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Sandbox]:
        async with await backend.start(SandboxSpec(limits=ExecLimits(wall=20, cpu=10))) as box:
            yield box

    try:
        async with opened() as box:
            assert (await box.python("print(6 * 7)")).stdout == b"42\n"
        yield opened
    finally:
        await backend.close()
