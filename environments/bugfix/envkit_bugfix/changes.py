"""What an agent changed in a repository: files of the allowed folders, by content, and nothing else of its box."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

MOST = 400_000
"""Characters of all changed files together: a hundred times what any repair here takes."""


def read_tree(archive: bytes) -> dict[str, bytes]:
    """The regular files of a tar archive by their paths; links and devices are left out. ValueError for no archive."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None:
                    files[str(PurePosixPath(member.name))] = content.read()
    except tarfile.TarError as error:
        raise ValueError(f"the box's files cannot be read: {error}") from error
    return files


def changed(original: Mapping[str, bytes], tree: Mapping[str, bytes], allowed: Sequence[str]) -> dict[str, str | None]:
    """The Python files of the allowed folders that are new or other than they were; None for one that is gone.

    ValueError where they are too long, or no text.
    """
    found: dict[str, str | None] = {}
    for path in sorted({*original, *tree}):
        if path.endswith(".py") and path.split("/")[0] in allowed and original.get(path) != tree.get(path):
            found[path] = tree[path].decode() if path in tree else None  # UnicodeDecodeError is a ValueError
    if sum(len(text or "") + len(path) for path, text in found.items()) > MOST:
        raise ValueError(f"they have more than {MOST:,} characters")
    return found


def patched(original: Mapping[str, bytes], changes: Mapping[str, str | None]) -> dict[str, bytes]:
    """The repository with the changes over it, and without its own tests."""
    files = {path: data for path, data in original.items() if not path.startswith("tests/")}
    for path, text in changes.items():
        if text is None:
            files.pop(path, None)
        else:
            files[path] = text.encode()
    return files
