"""The code environments need a sandbox that isolates; their tests skip, saying why, where this machine has none."""

import pytest

from envkit.sandbox.slot.backend import SlotBackend


@pytest.fixture
async def isolated() -> None:
    """Skips where no slot can be started."""
    backend = SlotBackend()
    can = await backend.available()
    await backend.close()
    if isinstance(can, str):
        pytest.skip(f"the slot backend is not available: {can}")
