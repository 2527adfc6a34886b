"""Rows of datasets, each with the place it was read from: a file's, a hub dataset's. Read anew at every iteration."""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import re
import socket
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from envkit import exact
from envkit.errors import UsageError

REACH_TIMEOUT = 5.0
"""Seconds in which the hub must accept a connection; the library's own retries take 23 s where there is no network."""


_COMMIT = re.compile("[0-9a-f]{40}")


class Row(dict[str, Any]):
    """One row; `place` says where it stands. A column that is not there is a UsageError that names both."""

    def __init__(self, columns: Mapping[str, Any], place: str) -> None:
        super().__init__(columns)
        self.place = place

    def __missing__(self, column: str) -> Any:
        raise UsageError(f"{self.place}: no column {column!r} (columns: {', '.join(self) or 'none'})")


class Rows(Protocol):
    """A source of rows; `str()` of it names it in messages, `about` in the record of a run."""

    about: dict[str, Any]

    def __iter__(self) -> Iterator[Row]: ...


class FileRows:
    """The rows of a `.jsonl`, `.jsonl.gz`, `.parquet` or `.csv` file."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UsageError(f"There is no data file {str(path)!r}.")
        self._path = path
        self._read = _reader(path)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        self.about: dict[str, Any] = {"file": str(path), "fingerprint": f"sha256:{digest}"}

    def __str__(self) -> str:
        return str(self._path)

    def __iter__(self) -> Iterator[Row]:
        path = str(self)
        for number, columns in self._read(self._path):
            yield Row(columns, f"{path}:{number}")


class HubRows:
    """The rows of one split of a hub dataset, fetched at the first iteration and then kept in the local cache.

    From then on `about` has the fingerprint that `datasets` gives the table, which is one of its own version too; and
    where no commit is pinned, the one that was loaded.
    """

    def __init__(self, dataset_id: str, split: str, config: str | None, revision: str | None) -> None:
        self._id, self._split, self._config, self._revision = dataset_id, split, config, revision
        self.about: dict[str, Any] = {"id": dataset_id, "config": config, "split": split, "revision": revision}

    def __str__(self) -> str:
        config = f" {self._config}" if self._config else ""
        return f"{self._id}{config} [{self._split}]"

    def __iter__(self) -> Iterator[Row]:
        for number, columns in enumerate(self._table):
            yield Row(columns, f"{self}: row {number}")

    @cached_property
    def _table(self) -> Any:
        if Path(self._id).exists():  # `datasets` would read that in place of the hub's
            raise UsageError(f"{self._id!r} in the working directory hides the hub's dataset; start elsewhere.")
        from datasets import __version__, load_dataset  # pyright: ignore
        from datasets.exceptions import DatasetsError  # pyright: ignore[reportMissingTypeStubs]

        load = cast("Callable[..., Any]", load_dataset)
        try:
            with _without_retries_if_unreachable():
                table = load(self._id, self._config, split=self._split, revision=self._revision)
        except ConnectionError as error:
            raise _unreachable(self, "not in the local cache") from error
        except (DatasetsError, OSError, ValueError) as error:
            at = f" at revision {self._revision}" if self._revision else ""
            raise UsageError(f"The dataset {self}{at} could not be loaded: {error}") from error
        commits = {Path(file["filename"]).parent.name for file in table.cache_files}
        if self._revision and _COMMIT.fullmatch(self._revision):
            if commits and self._revision not in commits:
                raise _unreachable(self, f"in the local cache at another revision than {self._revision}")
        elif commits:
            self.about["commit"] = min(commits)
        self.about["built"] = {"by": f"datasets {__version__}", "fingerprint": table._fingerprint}
        return table


class HubFileRows:
    """The rows of JSONL files in a dataset repository that the hub's reader cannot load, one file after the other.

    Each file is fetched when its rows are first read, and then kept in the local cache.
    """

    def __init__(self, dataset_id: str, files: Sequence[str], *, revision: str | None = None) -> None:
        self._id, self._files, self._revision = dataset_id, files, revision
        self.about: dict[str, Any] = {"id": dataset_id, "config": None, "files": list(files), "revision": revision}

    def __str__(self) -> str:
        return f"{self._id} [{', '.join(self._files)}]"

    def __iter__(self) -> Iterator[Row]:
        for file in self._files:
            for number, columns in _jsonl(self._fetched(file)):
                yield Row(columns, f"{self._id} {file}:{number}")

    def _fetched(self, file: str) -> Path:
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportUnknownVariableType]
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        fetch = cast("Callable[..., str]", hf_hub_download)
        offline = not _accepts_connections(_endpoint())
        try:
            path = fetch(self._id, file, repo_type="dataset", revision=self._revision, local_files_only=offline)
        except LocalEntryNotFoundError as error:
            raise _unreachable(self, "not in the local cache") from error
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise UsageError(f"{file} of the dataset {self._id} could not be fetched: {error}") from error
        return Path(path)


def _endpoint() -> str:
    from datasets import config  # pyright: ignore[reportMissingTypeStubs]

    return config.HF_ENDPOINT


def _unreachable(rows: HubRows | HubFileRows, why: str) -> UsageError:
    return UsageError(
        f"{_endpoint()} cannot be reached, and {rows} is {why}. "
        "No other data was put in its place. Ways out:\n"
        "  --data FILE     its rows from a JSONL, Parquet or CSV file\n"
        "  --data sample   the tasks that ship with the environment\n"
        "  or load it once where there is a network: it is then found in the cache (HF_HOME), also offline."
    )


@contextmanager
def _without_retries_if_unreachable() -> Generator[None]:
    """Only the cache is asked inside where the hub's host takes no connection: its client would try for long."""
    from datasets import config  # pyright: ignore[reportMissingTypeStubs]

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or not _accepts_connections(config.HF_ENDPOINT)
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _accepts_connections(url: str) -> bool:
    """Whether the host takes a connection; through a proxy that cannot be told, so yes."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=REACH_TIMEOUT).close()
    except OSError:
        return False
    return True


Numbered = Iterator[tuple[int, dict[str, Any]]]


def _reader(path: Path) -> Callable[[Path], Numbered]:
    readers = {".jsonl": _jsonl, ".jsonl.gz": _jsonl, ".parquet": _parquet, ".csv": _csv}
    for ending, reader in readers.items():
        if path.name.lower().endswith(ending):
            return reader
    raise UsageError(f"{path}: data is read from {', '.join(readers)} files; this one's name ends in none of these.")


def _jsonl(path: Path) -> Numbered:
    number = 0
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix.lower() == ".gz" else raw as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _object(line, path, number)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}:{number + 1}: cannot be read ({error})") from error


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        columns = exact.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}:{number}: not JSON ({error})") from error
    if not isinstance(columns, dict):
        raise UsageError(f"{path}:{number}: a JSON object was due, this is {type(columns).__name__}")
    return cast("dict[str, Any]", columns)


def _csv(path: Path) -> Numbered:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for columns in reader:
                if None in columns or None in columns.values():
                    due = len(reader.fieldnames or ())
                    raise UsageError(f"{path}:{reader.line_num}: the header has {due} columns, this line has not")
                yield reader.line_num, columns
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{path}:{reader.line_num + 1}: not CSV in UTF-8 ({error})") from error


def _parquet(path: Path) -> Numbered:
    """Rows of a Parquet file, counted from 1."""
    from pyarrow import ArrowException, parquet  # pyright: ignore

    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1000):  # pyright: ignore
            for columns in cast("list[dict[str, Any]]", batch.to_pylist()):  # pyright: ignore
                number += 1
                yield number, columns
    except ArrowException as error:  # pyright: ignore
        raise UsageError(f"{path}: not a readable Parquet file ({error})") from error
