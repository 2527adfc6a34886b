"""Each backend of the contract, or the reason why this machine lacks it."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from envkit.sandbox import Backend, Sandbox, SandboxSpec

BACKENDS = {
    "unsafe": ("envkit.sandbox.unsafe", "UnsafeBackend", {"unsafe": True}),
    "slot": ("envkit.sandbox.slot.backend", "SlotBackend", {}),
    "docker": ("envkit.sandbox.docker", "DockerBackend", {}),
}

Start = Callable[..., Awaitable[Sandbox]]


async def usable(name: str) -> Backend:
    """A backend that can start boxes here; skips where there is none."""
    module, kind, arguments = BACKENDS[name]
    try:
        backend: Backend = getattr(importlib.import_module(module), kind)(**arguments)
    except ModuleNotFoundError as error:
        pytest.skip(f"{name}: {error}")
    if isinstance(why := await backend.available(), str):
        await backend.close()
        pytest.skip(f"{name}: {why}")
    return backend


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    backend = await usable(request.param)
    yield backend
    await backend.close()


@pytest.fixture
async def start(backend: Backend) -> AsyncIterator[Start]:
    """Boxes of the backend, closed at the end of the test."""
    boxes: list[Sandbox] = []

    async def one(**spec: object) -> Sandbox:
        boxes.append(await backend.start(SandboxSpec(**spec)))  # pyright: ignore[reportArgumentType]
        return boxes[-1]

    yield one
    for box in boxes:
        await box.close()


@pytest.fixture
async def box(start: Start) -> Sandbox:
    return await start()
