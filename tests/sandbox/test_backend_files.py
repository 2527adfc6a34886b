"""What every backend keeps of files: written, read, uploaded and downloaded, and never out of the box."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from envkit.sandbox import Sandbox

MiB = 1 << 20


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def member(name: str, *, link: str = "", kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


class TestFiles:
    async def test_write_and_read(self, box: Sandbox) -> None:
        content = bytes(range(256)) * 300
        await box.write("a/b/c.bin", content)
        assert await box.read("/work/a/b/c.bin") == content
        await box.write("/work/a/b/c.bin", b"short", mode=0o755)
        assert await box.read("a/b/../b/c.bin") == b"short"
        assert (await box.exec(["test", "-x", "a/b/c.bin"])).ok
        await box.write("/tmp/t", b"")
        assert await box.read("/tmp/t") == b""

    async def test_programs_and_the_supervisor_see_the_same_files(self, box: Sandbox) -> None:
        await box.write("in", b"given")
        assert (await box.exec(["sh", "-c", "cat in; printf made > out; printf on >> in"])).stdout == b"given"
        assert await box.read("out") == b"made"
        assert await box.read("in") == b"givenon"
        await box.write("out", b"again")
        assert await box.read("out") == b"again"

    async def test_what_cannot_be_read(self, box: Sandbox) -> None:
        with pytest.raises(FileNotFoundError):
            await box.read("missing")
        with pytest.raises(ValueError):  # noqa: PT011
            await box.read("/work")
        await box.write("long", b"x" * 1001)
        assert len(await box.read("long", 1001)) == 1001
        with pytest.raises(ValueError, match="long"):
            await box.read("long", 1000)
        assert (await box.exec(["mkfifo", "fifo"])).ok
        with pytest.raises(ValueError, match="fifo"):
            await box.read("fifo")
        with pytest.raises(ValueError, match="box"):
            await box.read("../../../etc/passwd")

    async def test_a_folder_is_not_replaced(self, box: Sandbox) -> None:
        await box.write("folder/file", b"")
        with pytest.raises(ValueError, match="folder"):
            await box.write("folder", b"x")

    async def test_links_lead_to_nothing_of_the_host(self, box: Sandbox, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        canary.write_text("of the host")
        plant = f"ln -s {canary} link; ln -s {tmp_path} there; ln -s {canary} written"
        assert (await box.exec(["sh", "-c", plant])).ok
        for path in ("link", "there/canary"):
            with pytest.raises((ValueError, FileNotFoundError)):
                await box.read(path)
        with contextlib.suppress(ValueError, FileNotFoundError):  # or the link itself
            assert b"of the host" not in await box.download("there")
            assert b"of the host" not in await box.download("there/canary")
        await box.write("written", b"of the box")
        assert await box.read("written") == b"of the box"
        assert canary.read_text() == "of the host"
        with contextlib.suppress(ValueError):
            await box.write("there/new", b"x")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["canary"]

    async def test_upload_and_download(self, box: Sandbox) -> None:
        await box.upload(tar((member("x/one"), b"1"), (member("two"), b"22")), "in")
        assert (await box.read("in/x/one"), await box.read("in/two")) == (b"1", b"22")
        with tarfile.open(fileobj=io.BytesIO(await box.download("in"))) as archive:
            files = {os.path.normpath(one.name): one.size for one in archive if one.isfile()}
        assert files == {"x/one": 1, "two": 2}
        with tarfile.open(fileobj=io.BytesIO(await box.download("in/two"))) as archive:
            assert [(os.path.normpath(one.name), one.size) for one in archive] == [("two", 2)]
        with pytest.raises(FileNotFoundError):
            await box.download("nowhere")
        await box.write("in/big", b"x" * 100_000)
        with pytest.raises(ValueError, match="longer"):
            await box.download("in", 50_000)
        with pytest.raises(ValueError):  # noqa: PT011
            await box.upload(b"this is no archive" * 1000, "in")

    @pytest.mark.parametrize("evil", ["absolute", "dots", "link", "hard link"])
    async def test_a_hostile_archive_leads_nowhere(self, box: Sandbox, tmp_path: Path, evil: str) -> None:
        target = tmp_path / "target"
        target.write_text("of the host")
        archive = {
            "absolute": tar((member(str(target)), b"evil")),
            "dots": tar((member("../" * 12 + str(target)[1:]), b"evil")),
            "link": tar(
                (member("out", link=str(tmp_path), kind=tarfile.SYMTYPE), b""), (member("out/target"), b"evil")
            ),
            "hard link": tar((member("out", link=str(target), kind=tarfile.LNKTYPE), b""), (member("out"), b"evil")),
        }[evil]
        with contextlib.suppress(ValueError):
            await box.upload(archive, "in")
        assert target.read_text() == "of the host"
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"
