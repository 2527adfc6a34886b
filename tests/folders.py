"""A backend for tests of the pool: real boxes in temporary folders, counted; starts and ends can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envkit.errors import InfraError
from envkit.sandbox import Sandbox, SandboxSpec
from envkit.sandbox.unsafe import UnsafeBackend


class Folders(UnsafeBackend):
    """`live` are the boxes that are not closed; `most` is how many there were at once."""

    def __init__(self, *, starts_in: Callable[[], float] = lambda: 0.0, closes_in: Callable[[], float] = lambda: 0.0):
        super().__init__(unsafe=True)
        self.starts_in, self.closes_in = starts_in, closes_in
        self.live: set[Sandbox] = set()
        self.started = self.most = self.swept = self.ended = 0
        self.roots: list[Path] = []
        self.broken: list[Exception] = []

    async def start(self, spec: SandboxSpec) -> Sandbox:
        if self.broken:
            raise self.broken.pop()
        await asyncio.sleep(self.starts_in())
        box: Any = await super().start(spec)
        self.started += 1
        self.live.add(box)
        self.roots.append(box._root)
        self.most = max(self.most, len(self.live))
        closes = box.close

        async def close() -> None:
            await asyncio.sleep(self.closes_in())
            await closes()
            self.live.discard(box)

        box.close = close
        return box

    async def sweep(self) -> int:
        self.swept += 1
        return await super().sweep()

    async def close(self) -> None:
        self.ended += 1

    def left(self) -> list[Path]:
        """Folders of boxes that are still there."""
        return [root for root in self.roots if root.exists()]


class Unclosable(Folders):
    """Boxes that cannot be closed the first time."""

    async def start(self, spec: SandboxSpec) -> Sandbox:
        box: Any = await super().start(spec)
        closes = box.close

        async def close() -> None:
            await closes()
            raise InfraError("the daemon went away")

        box.close = close
        return box
