"""Names a sync function while it still holds the event loop: what never returns could not be named afterwards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SAID_AFTER = 5.0
"""Seconds after which a function that still holds a loop is named: by then every rollout stands still."""
LOOK_EVERY = 1.0


@dataclass(eq=False, slots=True)
class _Held:
    tell: Callable[[float], None]
    since: float
    told: bool = False


class Watchdog:
    """A thread that looks at what holds the loops of this process, begun with the first that does."""

    def __init__(self, *, after: float = SAID_AFTER, every: float = LOOK_EVERY) -> None:
        self._after, self._every = after, every
        self._held: dict[int, _Held] = {}
        """By the thread whose loop it is."""
        self._thread: threading.Thread | None = None

    def holds(self, tell: Callable[[float], None]) -> None:
        """A function begins to run on this thread's loop; `tell` is called with its seconds, once, where they are too
        many: on the watchdog's thread, since this one is not free."""
        if self._thread is None or not self._thread.is_alive():  # as after a fork
            self._thread = threading.Thread(target=self._look, name="envkit watchdog", daemon=True)
            self._thread.start()
        self._held[threading.get_ident()] = _Held(tell, time.perf_counter())

    def returned(self) -> None:
        """It holds the loop no more."""
        self._held.pop(threading.get_ident(), None)

    def _look(self) -> None:
        while True:
            time.sleep(self._every)
            for held in list(self._held.values()):
                seconds = time.perf_counter() - held.since
                if seconds > self._after and not held.told:
                    held.told = True
                    with contextlib.suppress(Exception):  # a listener's, which is not what is looked for here
                        held.tell(seconds)


WATCHDOG = Watchdog()
"""The process's: there is one interpreter to hold."""
