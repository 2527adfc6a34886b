"""The deadline that can stand still."""

from __future__ import annotations

import asyncio
import time

import pytest

from envkit.limits import Deadline


async def test_time_in_a_pause_does_not_count() -> None:
    async with asyncio.timeout(0.2) as scope:
        deadline = Deadline(scope)
        with deadline.paused():
            await asyncio.sleep(0.3)
    assert not scope.expired()


async def test_nested_and_parallel_pauses_count_once() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1) as scope:
            deadline = Deadline(scope)
            with deadline.paused():
                with deadline.paused():
                    await asyncio.sleep(0.15)
                assert scope.when() is None
                await asyncio.sleep(0.05)
            await asyncio.sleep(5)
    assert scope.expired()


async def test_a_pause_that_begins_after_the_end_only_puts_it_off() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02) as scope:
            deadline = Deadline(scope)
            time.sleep(0.03)  # noqa: ASYNC251 - whoever holds the loop keeps the timeout from firing
            with deadline.paused():
                await asyncio.sleep(0.01)
            await asyncio.sleep(5)
    assert scope.expired()


async def test_given_back_time_extends_the_deadline() -> None:
    async with asyncio.timeout(0.1) as scope:
        deadline = Deadline(scope)
        deadline.give_back(5.0)
        with deadline.paused():
            deadline.give_back(5.0)
        await asyncio.sleep(0.15)
    assert not scope.expired()


async def test_no_deadline_is_none_to_pause() -> None:
    async with asyncio.timeout(None) as scope:
        deadline = Deadline(scope)
        with deadline.paused():
            await asyncio.sleep(0)
            deadline.give_back(1.0)
        deadline.give_back(1.0)
        assert scope.when() is None


async def test_a_task_may_give_less_time_than_the_limits_and_never_more() -> None:
    now = asyncio.get_running_loop().time()
    async with asyncio.timeout(100.0) as scope:
        deadline = Deadline(scope)
        deadline.within(50.0)
        await asyncio.sleep(0)
        assert 40.0 < (scope.when() or 0.0) - now < 60.0
        deadline.within(1000.0)
        assert (scope.when() or 0.0) - now < 60.0
        with deadline.paused():
            deadline.within(20.0)
            assert scope.when() is None
        assert (scope.when() or 0.0) - now < 30.0
    async with asyncio.timeout(None) as scope:
        Deadline(scope).within(50.0)
        await asyncio.sleep(0)
        assert scope.when() is not None
