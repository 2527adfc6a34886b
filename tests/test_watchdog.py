"""The watchdog: told once, of what holds a loop still, and of nothing that has returned."""

from __future__ import annotations

import time

from envkit.watchdog import Watchdog


def test_what_holds_for_too_long_is_told_once_and_what_returned_is_not() -> None:
    dog = Watchdog(after=0.1, every=0.01)
    told: list[float] = []

    def fails(seconds: float) -> None:
        raise RuntimeError

    dog.holds(told.append)
    dog.returned()
    time.sleep(0.3)
    assert told == []
    dog.holds(fails)
    time.sleep(0.3)
    dog.holds(told.append)
    end = time.monotonic() + 20
    while not told and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    dog.returned()
    assert len(told) == 1
    assert told[0] > 0.1
