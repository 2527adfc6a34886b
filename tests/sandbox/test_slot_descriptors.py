"""A slot's client keeps no descriptor of what has ended, and works with more of them than select() can name."""

import os
import resource
from collections.abc import Iterator

import pytest
from backends import usable

from envkit.sandbox import SandboxSpec


def held() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_program_that_was_killed_unread_leaves_no_descriptor() -> None:
    backend = await usable("slot")
    counts: list[int] = []
    for _ in range(12):
        async with await backend.start(SandboxSpec()) as box:
            process = await box.spawn(["cat"])
            await process.write(b"x")
            await process.kill()
        counts.append(held())
    await backend.close()
    assert counts[-1] < counts[0] + 6, counts  # one kept a box would be 11 more


@pytest.fixture
def many() -> Iterator[None]:
    """More than 1,024 open descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"only {hard} descriptors may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    yield
    for fd in fds:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many")
async def test_descriptors_beyond_1024_are_used() -> None:
    backend = await usable("slot")
    for _ in range(2):  # the second box has a slot that was kept
        async with await backend.start(SandboxSpec()) as box:
            assert (await box.python("print(42)")).stdout == b"42\n"
    await backend.close()
