"""What an agent changed in a repository: files of the allowed folders, by content, and nothing else of its box."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath

import orjson

from envkit.sandbox.base import MiB, Sandbox

MOST = 400_000
"""Bytes of all changed files together, as the record keeps them: a hundred times what any repair here takes."""
MOST_FILES = 200
"""Changed files: each is put into the box of the tests by itself."""
MOST_PACKED = 4 * MiB
"""Of an allowed folder with all that lies in it; a repository here has some kilobytes."""


async def trees(box: Sandbox, folders: Sequence[str]) -> dict[str, bytes]:
    """The files of these folders of a box. ValueError where they cannot be read, or are far too much."""
    files: dict[str, bytes] = {}
    for folder in folders:
        try:
            archive = await box.download(folder, MOST_PACKED)
        except FileNotFoundError:
            continue
        files |= {f"{folder}/{path}": content for path, content in read_tree(archive).items()}
    return files


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

    ValueError where they are too many or too long, or where a content or a name is no text.
    """
    theirs = (
        path
        for path in sorted({*original, *tree})
        if path.endswith(".py") and path.split("/")[0] in allowed and original.get(path) != tree.get(path)
    )
    found: dict[str, str | None] = {}
    for path in islice(theirs, MOST_FILES + 1):
        path.encode()  # a UnicodeError is a ValueError
        found[path] = tree[path].decode() if path in tree else None
    if len(found) > MOST_FILES:
        raise ValueError(f"they are more than {MOST_FILES} files")
    if len(orjson.dumps(found)) > MOST:
        raise ValueError(f"they have more than {MOST:,} bytes")
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
