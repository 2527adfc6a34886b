"""Images of tasks' Dockerfiles, each built once, on the docker daemon that the docker backend uses."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from envkit.errors import InfraError
from envkit.sandbox.docker.daemon import Daemon, Refused

if TYPE_CHECKING:
    from envkit.adapters.harbor import HarborTask

AT_ONCE = 2
"""Builds: most of one is waiting for a registry, but each may compile something."""

LABEL = "envkit.task"
"""On each image: the task that it is of. `docker image prune --all --filter label=envkit.task` removes them all."""

TOLD = 2000
"""Characters of what a failed build printed, from its end."""


class TaskImages:
    """Named by their content, so an image that is there is the right one, also in a later run."""

    def __init__(self, address: str | None = None) -> None:
        self._daemon = Daemon(address)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._building: dict[str, asyncio.Lock] = {}

    async def ready(self, task: HarborTask) -> None:
        """Have the image of this task's box. InfraError where the daemon cannot be used or the build fails."""
        image = task.sandbox.image if task.sandbox is not None else None
        assert image is not None, "only a task with an image has one to build"
        async with self._building.setdefault(image, asyncio.Lock()):
            if await self._exists(image):
                return
            async with self._free:
                await self._build(task, image)

    async def close(self) -> None:
        await self._daemon.close()

    async def _exists(self, image: str) -> bool:
        try:
            await self._daemon.call("inspect_image", image)
        except Refused as refusal:
            if refusal.status == 404:
                return False
            raise
        return True

    async def _build(self, task: HarborTask, image: str) -> None:
        stopped = threading.Event()
        building = asyncio.ensure_future(self._daemon.use(lambda client: _built(client, task, image, stopped)))
        try:
            async with asyncio.timeout(task.build_timeout):
                failure = await asyncio.shield(building)
        except TimeoutError:
            raise InfraError(f"The image of {task.id} was not built in {task.build_timeout:g} s.") from None
        finally:
            stopped.set()
            building.add_done_callback(_looked_at)
        if failure:
            raise InfraError(f"The image of {task.id} cannot be built from {task.context / 'Dockerfile'}: {failure}")


def _built(client: Any, task: HarborTask, image: str, stopped: threading.Event) -> str:
    """Build it, until it is there or `stopped`; what went wrong, "" where nothing did."""
    # The name is given at the end, so that a build that was stopped leaves none.
    told, made = "", ""
    stream = client.build(path=str(task.context), rm=True, forcerm=True, decode=True, labels={LABEL: task.id})
    try:
        for line in stream:
            if stopped.is_set():
                return "it was stopped"
            told = (told + str(line.get("stream", "")))[-TOLD:]
            if "error" in line:
                return ascii(f"{line['error']}\n{told}".strip())
            made = line.get("aux", {}).get("ID", made)
    finally:
        stream.close()
    if not made:
        return ascii(f"the daemon names no image: {told}")
    client.tag(made, *image.split(":"))
    return ""


def _looked_at(building: asyncio.Future[str]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not building.cancelled():
        building.exception()
