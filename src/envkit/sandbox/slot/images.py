"""Root file systems that people name: a folder as it is, or a tar archive, unpacked once for each backend."""

from __future__ import annotations

import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from envkit.errors import UsageError


class Images:
    """The archives that were unpacked, by path and time of change."""

    def __init__(self) -> None:
        self._unpacked: dict[tuple[Path, int, int], Path] = {}
        self.folders: list[Path] = []
        """What `remove` takes away."""

    def folder(self, image: str, record: Callable[[], None]) -> Path:
        """The root folder of an image; `record` is called before anything is made. Blocks while it unpacks."""
        path = Path(image).resolve()
        if path.is_dir():
            return path
        if not path.is_file():
            raise UsageError(f"There is no image {image!r}: name a folder or a tar archive with a root file system.")
        found = path.stat()
        key = (path, found.st_mtime_ns, found.st_size)
        if key not in self._unpacked:
            self._unpacked[key] = self._unpack(path, record)
        return self._unpacked[key]

    def remove(self) -> None:
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
        self.folders.clear()
        self._unpacked.clear()

    def _unpack(self, path: Path, record: Callable[[], None]) -> Path:
        if not hasattr(tarfile, "tar_filter"):
            raise UsageError("Unpacking an image safely needs Python 3.11.4 or later: unpack it, and name the folder.")
        folder = Path(tempfile.gettempdir(), f"envkit-image-{secrets.token_hex(8)}")
        self.folders.append(folder)
        record()
        folder.mkdir(mode=0o755)
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter=_without_devices)
        except (tarfile.TarError, OSError) as error:
            with suppress(OSError):
                shutil.rmtree(folder)
            raise UsageError(f"The image {str(path)!r} cannot be unpacked: {error}") from error
        return folder


def _without_devices(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    return None if member.isdev() else tarfile.tar_filter(member, folder)
