"""What rewards may return, and how they are named."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from contextvars import ContextVar

import pytest

from envkit.errors import EnvError, UsageError
from envkit.rewards import blocking, named, outcome_of, read_value, weighted
from envkit.trace import Score


def one(_: object) -> float:
    return 1.0


def test_names_are_the_functions_or_given() -> None:
    assert [(r.name, r.weight) for r in named([one, weighted(one, 0.2, name="again")])] == [
        ("one", 1.0),
        ("again", 0.2),
    ]


def test_a_missing_or_repeated_name_is_a_construction_error() -> None:
    with pytest.raises(UsageError, match="Two rewards are named 'one'"):
        named([one, one])
    with pytest.raises(UsageError, match="has no name"):
        named([lambda _: 1.0])


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1, (1.0, None, {"policy": 1.0})),
        (True, (1.0, None, {"policy": 1.0})),
        (None, (None, None, {})),
        ({"policy": 0.5, "other": -1}, (0.5, None, {"policy": 0.5, "other": -1.0})),
        (Score(value=None, reason="parse"), (None, Score(value=None, reason="parse"), {})),
        (Score(value=0.5), (0.5, Score(value=0.5), {"policy": 0.5})),
    ],
)
def test_values(value: object, read: object) -> None:
    assert read_value("r", value) == read


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", [1.0], {"other": 1.0}, Score(value=float("nan"))])
def test_anything_else_is_the_environments_error(value: object) -> None:
    with pytest.raises(EnvError, match="reward 'r' returned"):
        read_value("r", value)


async def test_blocking_runs_in_a_thread_and_keeps_its_name() -> None:
    def where(_: object) -> str:
        return threading.current_thread().name

    moved = blocking(where)
    value, held = await outcome_of(moved, None)
    assert value != threading.main_thread().name
    assert held < 0.05
    assert named([moved])[0].name == "where"


async def test_the_time_a_reward_holds_the_loop_is_told() -> None:
    async def patient(_: object) -> float:
        await asyncio.sleep(0.5)
        return 1.0

    async def holds(_: object) -> float:
        await asyncio.sleep(0)
        time.sleep(0.06)  # noqa: ASYNC251 - that is what is watched
        return 1.0

    assert (await outcome_of(lambda _: time.sleep(0.06), None))[1] >= 0.06
    assert (await outcome_of(holds, None))[1] >= 0.06
    value, held = await outcome_of(patient, None)
    assert (value, held < 0.4) == (1.0, True)


async def test_a_blocking_function_gives_what_it_gives_and_raises_what_it_raises() -> None:
    here = ContextVar("here", default=0)
    here.set(7)

    def add(a: int, b: int) -> int:
        if a == 0:
            raise KeyError("zero")
        if b == 0:
            raise StopIteration
        return a + b + here.get()

    assert await blocking(add)(1, b=2) == 10
    with pytest.raises(KeyError):
        await blocking(add)(0, 1)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await blocking(add)(1, 0)


async def test_blocking_functions_that_hang_starve_no_other() -> None:
    stop = threading.Event()
    hanging = [asyncio.ensure_future(blocking(stop.wait)(60)) for _ in range(100)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(blocking(lambda: 1)(), 20) == 1
    stop.set()
    await asyncio.gather(*hanging)


def test_a_process_ends_though_a_blocking_function_hangs() -> None:
    program = """
import asyncio, time
from envkit import blocking
async def main():
    try:
        await asyncio.wait_for(blocking(time.sleep)(120), 0.1)
    except TimeoutError:
        print("stopped")
asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "stopped\n"
