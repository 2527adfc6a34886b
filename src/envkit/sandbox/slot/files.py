"""The box's files, read and written from inside it with the rights of its programs, so that no link leads outside.

Runs in a fork of a slot's init that has given up everything: bytes come by stdin and go by stdout, and what is wrong is
one line of JSON on stderr. The standard library only.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from typing import Any, NoReturn

CHUNK = 1 << 18


def run(kind: str, request: dict[str, Any]) -> NoReturn:
    """Do it, and end with code 0, or with 1 and the reason on stderr."""
    try:
        _KINDS[kind](request)
    except FileNotFoundError as error:
        _refuse("missing", str(error))
    except Exception as error:  # noqa: BLE001 - the supervisor raises it, in words
        _refuse("failed", f"{type(error).__name__}: {error}")
    os._exit(0)


def _refuse(why: str, words: str) -> NoReturn:
    os.write(2, json.dumps({"why": why, "words": words[:500]}).encode())
    os._exit(1)


def _read(request: dict[str, Any]) -> None:
    fd = os.open(request["path"], os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    left = int(request["max_bytes"])
    if found.st_size > left:
        raise ValueError(f"it has {found.st_size} bytes, and {left} may be read")
    while data := os.read(fd, CHUNK):
        left -= len(data)
        if left < 0:
            raise ValueError(f"it has more than the {request['max_bytes']} bytes that may be read")
        _write_all(1, data)


def _write(request: dict[str, Any]) -> None:
    path: str = request["path"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.isdir(path):
        raise ValueError("it is a folder")
    with suppress(FileNotFoundError):
        os.unlink(path)  # a new file, never what a link or a pipe of that name leads to
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(fd, request["mode"])
    while data := os.read(0, CHUNK):
        _write_all(fd, data)
    os.close(fd)


def _upload(request: dict[str, Any]) -> None:
    import tarfile

    os.makedirs(request["path"], exist_ok=True)
    with os.fdopen(0, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        if hasattr(tarfile, "tar_filter"):
            archive.extraction_filter = tarfile.tar_filter  # type: ignore[assignment]
        archive.extractall(request["path"])


def _download(request: dict[str, Any]) -> None:
    import tarfile

    path: str = request["path"]
    entries = [(path, os.path.basename(path))]
    if os.path.isdir(path):
        entries = [(os.path.join(path, name), name) for name in sorted(os.listdir(path))]
    elif not os.path.lexists(path):
        raise FileNotFoundError(path)
    with os.fdopen(1, "wb") as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for source, name in entries:
            archive.add(source, arcname=name)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


_KINDS = {"read": _read, "write": _write, "upload": _upload, "download": _download}
