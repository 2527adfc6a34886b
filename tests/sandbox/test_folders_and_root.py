"""A box's further folders, and root of a box: for programs that have their paths, as `/tests`, written into them."""

from __future__ import annotations

import pytest
from sandbox.conftest import usable

from envkit.errors import UsageError
from envkit.sandbox import Backend, SandboxSpec

FOLDERS = ("/logs", "/tests")


async def refusal(backend: Backend, **spec: object) -> str:
    with pytest.raises(UsageError) as refused:
        await backend.start(SandboxSpec(**spec))  # pyright: ignore[reportArgumentType]
    return str(refused.value)


@pytest.mark.parametrize("name", ["slot", "docker"])
async def test_each_folder_is_the_boxs_own_and_empty_again_in_the_next(name: str) -> None:
    backend = await usable(name)
    try:
        for _ in range(2):
            async with await backend.start(SandboxSpec(workdir="/app", folders=FOLDERS)) as box:
                listed = await box.exec(["sh", "-c", "ls -A /logs /tests; mkdir /logs/x; echo 1 >/logs/x/y; touch /z"])
                assert listed.stdout == b"/logs:\n\n/tests:\n"
                assert b"Read-only" in listed.stderr
                assert await box.read("/logs/x/y") == b"1\n"
                await box.write("/tests/t.sh", b"true\n")
                assert (await box.exec(["sh", "t.sh"], cwd="/tests")).ok
    finally:
        await backend.close()


async def test_a_boxs_folders_share_its_bounds_in_a_slot() -> None:
    backend = await usable("slot")
    try:
        async with await backend.start(SandboxSpec(folders=FOLDERS)) as box:
            for folder in ("/logs", "/tests", "/work"):
                await box.exec(["sh", "-c", f"head -c {30 << 20} /dev/zero >{folder}/fill"])
            assert (await box.exec(["df", "--output=avail", "/tests"])).stdout.split()[-1] == b"0"
    finally:
        await backend.close()


async def test_what_a_slot_cannot_give_is_refused() -> None:
    backend = await usable("slot")
    try:
        assert "use the docker backend" in await refusal(backend, root=True)
        assert "where a slot has its system" in await refusal(backend, folders=("/usr/x",))
        assert "beside each other" in await refusal(backend, folders=("/work/x",))
        assert "beside each other" in await refusal(backend, folders=("/a", "/a"))
    finally:
        await backend.close()


async def test_root_changes_its_image_and_has_no_capability() -> None:
    backend = await usable("docker")
    try:
        async with await backend.start(SandboxSpec(workdir="/app", root=True)) as box:
            changed = await box.exec(["sh", "-c", "id -u; echo hi >/etc/planted && cat /etc/planted; pwd; echo $HOME"])
            assert changed.stdout.decode().split() == ["0", "hi", "/app", "/root"]
            status = (await box.exec(["grep", "^Cap", "/proc/self/status"])).stdout.split()
            assert set(status[1::2]) == {b"0" * 16}
            await box.exec(["sh", "-c", "kill -9 -1"])
            await box.exec(["sh", "-c", "sleep 600 & sleep 600 & exit"])
            left = await box.exec(["sh", "-c", "cat /proc/[0-9]*/cmdline"])
            assert b"600" not in left.stdout.replace(b"3600", b"")
        async with await backend.start(SandboxSpec(workdir="/app", root=True)) as box:
            assert (await box.exec(["cat", "/etc/planted"])).code == 1
    finally:
        await backend.close()


async def test_the_unsafe_backend_gives_neither() -> None:
    backend = await usable("unsafe")
    assert "no root and no folders" in await refusal(backend, folders=FOLDERS)
    assert "no root and no folders" in await refusal(backend, root=True)
    await backend.close()
