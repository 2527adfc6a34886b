"""The backends of this library as tests start them."""

from __future__ import annotations

import importlib

import pytest

from envkit.sandbox import Backend

BACKENDS = {
    "unsafe": ("envkit.sandbox.unsafe", "UnsafeBackend", {"unsafe": True}),
    "slot": ("envkit.sandbox.slot.backend", "SlotBackend", {}),
    "docker": ("envkit.sandbox.docker", "DockerBackend", {}),
}


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
