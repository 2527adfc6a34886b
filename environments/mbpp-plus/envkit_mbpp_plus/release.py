"""The rows of an EvalPlus release: fetched once, held to its digest, then read from the cache."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envkit.errors import UsageError
from envkit.rows import FileRows, Row

TIMEOUT = 30.0
"""Seconds for which the server may be silent."""
MOST = 64 << 20
"""Bytes; the file has 2 MB."""


class ReleaseRows:
    """The rows of a file at a URL. A file with another SHA-256 than the one given is refused and not kept."""

    def __init__(self, name: str, version: str, url: str, sha256: str) -> None:
        self._url, self._sha256 = url, sha256
        self._path = _cache() / f"{sha256[:12]}-{url.rpartition('/')[2]}"
        self.about: dict[str, Any] = {
            "id": name,
            "config": None,
            "revision": version,
            "fingerprint": f"sha256:{sha256}",
        }

    def __str__(self) -> str:
        return self._url

    def __iter__(self) -> Iterator[Row]:
        if not self._path.is_file():
            self._fetch()
        return iter(FileRows(self._path))

    def _fetch(self) -> None:
        try:
            with urllib.request.urlopen(self._url, timeout=TIMEOUT) as answer:  # the URL is this package's own
                content = answer.read(MOST)
        except (urllib.error.URLError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
            raise UsageError(
                f"{self._url} cannot be fetched ({reason}). Ways out:\n"
                "  --data FILE     the same file, fetched by other means\n"
                "  --data sample   the tasks that ship with the environment"
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != self._sha256:
            raise UsageError(
                f"{self._url} is not the file that was pinned: its SHA-256 is {found}, not {self._sha256}."
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f"{os.getpid()}-{self._path.name}")
        partial.write_bytes(content)
        partial.replace(self._path)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "envkit"
