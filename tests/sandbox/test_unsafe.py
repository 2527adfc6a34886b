"""The plain subprocess: said out loud, and as tidy as one can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from envkit.errors import UsageError
from envkit.sandbox import Capabilities, ExecLimits, SandboxSpec
from envkit.sandbox.unsafe import UnsafeBackend


def test_it_has_to_be_said() -> None:
    with pytest.raises(UsageError, match="isolates nothing") as refused:
        UnsafeBackend()
    assert "'slot' or 'docker'" in str(refused.value)


async def test_it_claims_nothing() -> None:
    found = await UnsafeBackend(unsafe=True).available()
    assert isinstance(found, Capabilities)
    assert (found.isolated, found.memory, found.images) == (False, False, False)


async def test_the_boxs_paths_lie_in_its_folder() -> None:
    async with await UnsafeBackend(unsafe=True).start(SandboxSpec(workdir="/somewhere/else")) as box:
        await box.write("/tmp/a", b"1")
        await box.write("b", b"2")
        where = (await box.exec(["pwd"], cwd="/tmp")).stdout.decode().strip()
        assert Path(where, "a").read_bytes() == b"1"
        assert Path(where).parent.joinpath("somewhere/else/b").read_bytes() == b"2"
    assert not Path(where).exists()
    assert not Path("/somewhere").exists()


async def test_a_program_that_takes_its_own_folders_rights_away() -> None:
    async with await UnsafeBackend(unsafe=True).start(SandboxSpec()) as box:
        where = (await box.exec(["pwd"])).stdout.decode().strip()
        assert (await box.exec(["sh", "-c", "mkdir -p a/b; touch a/b/c; chmod 000 a/b a"])).ok
    assert not Path(where).exists()


async def test_two_running_programs_end_apart() -> None:
    async with await UnsafeBackend(unsafe=True).start(SandboxSpec()) as box:
        kept = await box.spawn(["cat"], limits=ExecLimits(wall=60))
        gone = await box.spawn(["cat"], limits=ExecLimits(wall=60))
        await gone.kill()
        await kept.write(b"still here")
        assert await kept.read(within=10) == b"still here"
