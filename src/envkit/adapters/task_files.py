"""The files of a task's folder: which there are, their digest, and the archive that takes them to a box.

Links are read as what they lead to, and may lead only to the task's own files.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from envkit.errors import UsageError

JUNK = frozenset({".git", "__pycache__", ".DS_Store"})
"""What tools leave in a folder and nobody wrote: in no digest and no box."""

MOST_BYTES = 256 << 20
"""Of all files that are taken to a box at once; they pass through memory."""


def files(folder: Path, within: Path | None = None) -> dict[str, Path]:
    """Each file below the folder by its name relative to it, sorted; UsageError for a link out of `within`."""
    root = (within or folder).resolve()
    return dict(sorted(_walk(folder, "", root, frozenset())))


def digest(folder: Path) -> str:
    """The SHA-256 of the names and contents of all files, in hex: the same wherever the folder lies."""
    whole = hashlib.sha256()
    for name, path in files(folder).items():
        content = path.read_bytes()
        whole.update(f"{len(name.encode())}:{len(content)}:{name}".encode())
        whole.update(content)
    return whole.hexdigest()


def archive(contents: Iterable[tuple[str, Path | bytes]]) -> bytes:
    """A tar of files, or of bytes, under these names; what can be executed stays so. UsageError where they are too
    many."""
    packed, total = io.BytesIO(), 0
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, source in contents:
            content = source if isinstance(source, bytes) else source.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if isinstance(source, Path) and os.access(source, os.X_OK) else 0o644
            if (total := total + member.size) > MOST_BYTES:
                raise UsageError(f"The files up to {name!r} that go to a box are over {MOST_BYTES >> 20} MiB.")
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _walk(folder: Path, below: str, root: Path, above: frozenset[Path]) -> Iterator[tuple[str, Path]]:
    real = folder.resolve()
    if real in above:
        raise UsageError(f"{folder} is a link to a folder that it lies in.")
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.name in JUNK:
            continue
        if not path.resolve().is_relative_to(root):
            raise UsageError(f"{path} is a link that leads out of {root}: a task is made of its own files.")
        if path.is_dir():
            yield from _walk(path, f"{below}{entry.name}/", root, above | {real})
        elif path.is_file():
            yield f"{below}{entry.name}", path
        else:
            raise UsageError(f"{path} is neither a file nor a folder.")
