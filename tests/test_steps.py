"""Steps: what is awaited through them is as if awaited itself, and its longest step is known."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from envkit.steps import Steps


async def test_the_longest_step_is_kept() -> None:
    async def works() -> str:
        await asyncio.sleep(0.15)
        time.sleep(0.06)  # noqa: ASYNC251 - that is what is watched
        await asyncio.sleep(0)
        return "done"

    steps = Steps(works())
    assert await steps == "done"
    assert 0.06 <= steps.held < 0.15


async def test_exceptions_cancellations_and_timeouts_go_through() -> None:
    seen: list[str] = []

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            raise
        return ""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await Steps(fails())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Steps(stubborn())
    assert seen == ["cancelled"]


async def test_whatever_can_be_awaited_can_be_stepped() -> None:
    @types.coroutine
    def old() -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        return 1

    class Bare:
        """Its iterator can do nothing but go on."""

        def __await__(self) -> Iterator[None]:
            return iter([None, None])

    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 2)
    assert [await Steps(old()), await Steps(future), await Steps(Bare())] == [1, 2, None]  # type: ignore[arg-type]
    task = asyncio.ensure_future(asyncio.wait_for(Steps(Bare()), 5))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
