"""The run directory: append-only, one writer, and nothing finished is lost by a `kill -9` at any moment.

    run.json        inputs and status, written first and atomically
    tasks.jsonl     each task once, by hash
    rollouts.jsonl  one trace a line, written as soon as it is scored
    index.jsonl     one `RolloutRow` a rollout, with the offset and length of its line
    scores/         layers over the traces: group rewards, re-scorings
    results.json    the report; always recomputable
    blobs/          images, named by their digest
    logs/           what went wrong, a line each, for a person to read

A line is whole when it ends in a newline; a torn last line is dropped. The index follows the traces, many
rows at once, and is rebuilt from them where it lags behind. Reading never imports the environment.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any, Self, TextIO, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticSerializationError

from envkit import exact
from envkit.errors import UsageError
from envkit.report import RolloutRow
from envkit.task import RecordedTask, Task
from envkit.trace import SCHEMA, Trace
from envkit.types import Image, Message

SCORING_FIELDS = ("outcome", "stop", "error", "reward", "rewards", "agent_rewards", "metrics", "scores", "judging")
GROUP_LAYER = "group"
ROWS_AT_ONCE = 64
"""Rows of the index in one write: each write costs as much as all else that saving a rollout takes."""
_Key = tuple[str, int, int]
"""A rollout's task hash, sample and attempt."""
T = TypeVar("T")
_ROW_FIELDS = {field.name for field in fields(RolloutRow)}


class Manifest(BaseModel):
    """`run.json`: what went into a run. `status` is running, finished, or why it stopped.

    `inputs` holds what must be the same for a resume: environment, dataset, models, sampling, selection, seed.
    """

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    schema_: int = Field(alias="schema")
    id: str
    created: str
    status: str = "running"
    env: str
    model: str
    inputs: dict[str, Any] = Field(default_factory=dict[str, Any])
    group_rewards: list[str] = Field(default_factory=list[str])
    """Their names: a report counts the groups that were too small for them, and imports no environment."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """What the command line was told, so that `envkit eval --resume DIR` needs nothing else."""
    versions: dict[str, str] = Field(default_factory=dict[str, str])
    changes: list[str] = Field(default_factory=list[str])
    """Differences in the inputs that a resume was told to accept."""

    @field_validator("inputs")
    @classmethod
    def _has_tables(cls, inputs: dict[str, Any]) -> dict[str, Any]:
        for name in ("env", "selection"):
            if not isinstance(inputs.get(name, {}), dict):
                raise ValueError(f"{name!r} must be an object, not {inputs[name]!r}")
        return inputs

    @property
    def k(self) -> int:
        """How many rollouts each task has."""
        return self.inputs.get("selection", {}).get("k", 1)

    @classmethod
    def begin(cls, env: str, model: str, **more: Any) -> Manifest:
        """The manifest of a run that begins now."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return cls(schema=SCHEMA, id=secrets.token_hex(3), created=now, env=env, model=model, **more)

    def folder(self) -> str:
        """The run's folder name: time, environment, model, id."""
        stamp = self.created.replace(":", "").replace("-", "").rstrip("Z")
        names = (_safe(self.env), _safe(self.model.rsplit("/", 1)[-1]))
        return "_".join((stamp, *names, self.id))


class RunDirectory:
    """A run on disk, to look at. Nothing here writes, so a run may be read while it goes on."""

    def __init__(self, path: Path, manifest: Manifest | None = None) -> None:
        """UsageError where this is no run directory that this envkit can read."""
        self.path = path
        self.manifest = manifest or _manifest(path)

    def rows(self, layer: str | None = None) -> list[RolloutRow]:
        """One row a rollout, all attempts, with the group rewards and then this layer laid over them."""
        said = self._said(layer)
        rows = list(_rows(self.path))
        return [row if (scoring := said.get(_key(row))) is None else row.scored_as(scoring) for row in rows]

    def tasks(self) -> dict[str, Task]:
        """The tasks by hash."""
        return dict(_lines(self.path / "tasks.jsonl", _recorded_task))

    def traces(self, rows: Iterable[RolloutRow]) -> Iterator[Trace]:
        """The traces of these rows as they were first scored, each with its task."""
        tasks = self.tasks()
        path = self.path / "rollouts.jsonl"
        with path.open("rb") as file:
            for row in rows:
                file.seek(row.offset)
                where = f"{path} (byte {row.offset})"
                trace = _trace(file.read(row.length), where)
                if trace.task_hash not in tasks:
                    raise UsageError(f"{self.path / 'tasks.jsonl'} is damaged: the task of {where} is not there.")
                yield trace.with_task(tasks[trace.task_hash])

    def scored_traces(self, rows: Iterable[RolloutRow], layer: str | None = None) -> Iterator[Trace]:
        """The traces of these rows, with what `rows(layer)` lays over them."""
        said = self._said(layer)
        for trace in self.traces(rows):
            scoring = said.get(_key(trace))
            yield trace if scoring is None else trace.model_copy(update=_fields(scoring))

    def load_images(self, trace: Trace) -> None:
        """Give the images of this trace and of its task their bytes; UsageError where the run has them no more."""
        for image in _images([*trace.task.messages(), *_messages(trace)]):
            if image.digest is not None and image.data is None:
                blob = self._blob(image.digest)
                try:
                    image.load(blob.read_bytes())
                except (OSError, ValueError) as error:
                    raise UsageError(f"{blob}, an image of task {trace.task_id!r}, cannot be read: {error}") from error

    def layers(self) -> list[str]:
        """Names of the layers that lie over the traces."""
        return sorted(path.stem for path in (self.path / "scores").glob("*.jsonl"))

    def layer_file(self, name: str) -> Path:
        return self.path / "scores" / f"{_safe(name)}.jsonl"

    def _said(self, layer: str | None) -> dict[_Key, Trace]:
        """What the group rewards say of each rollout, or where it does, this layer."""
        names = [GROUP_LAYER] if layer is None else [GROUP_LAYER, layer]
        lines = (_lines(self.layer_file(name), _scoring) for name in names)
        return {_key(scoring): scoring for scoring in chain.from_iterable(lines)}

    def _blob(self, digest: str) -> Path:
        return self.path / "blobs" / digest.partition(":")[2]


class RunWriter(RunDirectory):
    """The one writer of a run; it holds the run's lock until it is closed."""

    def __init__(self, path: Path, manifest: Manifest, lock: TextIO) -> None:
        super().__init__(path, manifest)
        self._lock = lock
        self._tasks = _Appender(path / "tasks.jsonl")
        self._rollouts = _Appender(path / "rollouts.jsonl")
        self._index = _Appender(path / "index.jsonl")
        self._rows: list[RolloutRow] = []
        self._layers: dict[str, _Appender] = {}
        self._stored = set(_lines(path / "tasks.jsonl", lambda line: str(line["hash"])))
        self._expected: dict[str, Task] = {}

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> Self:
        """Begin a run in a folder that is new or empty; UsageError where it cannot be written."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError(f"{path} is not empty. Name another folder, or go on with --resume {path}.")
            lock = _locked(path)
            _write_atomically(path / "run.json", _pretty(manifest))
            return cls(path, manifest, lock)
        except OSError as error:
            raise UsageError(
                f"The run cannot be written to {path}: {error.strerror}. Name a folder with --out."
            ) from error

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Go on with a run: torn lines are cut off, the index is brought up to date."""
        manifest = _manifest(path)
        try:
            lock = _locked(path)
            for name in ("rollouts.jsonl", "index.jsonl", "tasks.jsonl"):
                _cut_torn_line(path / name)
            _write_atomically(path / "index.jsonl", b"".join(_encoded(row) for row in _rows(path)))
            return cls(path, manifest, lock)
        except OSError as error:
            raise UsageError(f"The run in {path} cannot be written: {error.strerror}.") from error

    def expect(self, task: Task) -> None:
        """Rollouts of this task are to come: its line is written with others', before the first of its traces."""
        if task.hash not in self._stored:
            self._expected[task.hash] = task

    def append(self, trace: Trace) -> RolloutRow:
        """Save a finished trace: its task if it is new, its images, its line, its row. OSError on a full disk."""
        if trace.task_hash not in self._stored:
            self.expect(trace.task)
            self._save_tasks()
        self._save_images(_images(_messages(trace)))
        offset, length = self._rollouts.append(trace.to_json() + b"\n")
        row = RolloutRow.of(trace, offset=offset, length=length)
        self._rows.append(row)
        if len(self._rows) == ROWS_AT_ONCE:
            self._save_rows()
        return row

    def layer(self, name: str, traces: Iterable[Trace]) -> None:
        """Append what a scoring said of these traces to `scores/<name>.jsonl`; their own lines stay as they are."""
        if name not in self._layers:
            path = self.layer_file(name)
            path.parent.mkdir(exist_ok=True)
            _cut_torn_line(path)
            self._layers[name] = _Appender(path)
        for trace in traces:
            who = {"task_hash": trace.task_hash, "sample": trace.sample, "attempt": trace.attempt}
            said = trace.model_dump(mode="json", include=set(SCORING_FIELDS))
            self._save_images(_images(_messages(trace)))
            self._layers[name].append(_encoded(who | said))

    def save(self, **changes: Any) -> None:
        """Write `run.json` anew with these fields changed."""
        self.manifest = self.manifest.model_copy(update=changes)
        _write_atomically(self.path / "run.json", _pretty(self.manifest))

    def save_results(self, results: bytes) -> None:
        _write_atomically(self.path / "results.json", results)

    def close(self) -> None:
        """Close all files and let go of the lock."""
        with suppress(OSError):  # a full disk: the index can be made again
            self._save_rows()
        for appender in (self._tasks, self._rollouts, self._index, *self._layers.values()):
            appender.close()
        self._lock.close()

    def _save_tasks(self) -> None:
        for task in self._expected.values():
            self._save_images(() if isinstance(task.prompt, str) else _images(task.messages()))
        self._tasks.append(b"".join(map(_task_line, self._expected.values())))
        self._stored.update(self._expected)
        self._expected.clear()

    def _save_rows(self) -> None:
        self._index.append(b"".join(map(_encoded, self._rows)))
        self._rows.clear()

    def _save_images(self, images: Iterable[Image]) -> None:
        for image in images:
            if image.data is not None and image.digest is not None:
                blob = self._blob(image.digest)
                if not blob.exists():
                    blob.parent.mkdir(exist_ok=True)
                    _write_atomically(blob, image.data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _task_line(task: Task) -> bytes:
    try:
        fields = task.model_dump_json().encode()
    except PydanticSerializationError:  # half of a surrogate pair
        fields = exact.dumps(task.model_dump(mode="json"))
    return b'{"hash":"%s","task":%s}\n' % (task.hash.encode(), fields)


def _messages(trace: Trace) -> list[Message]:
    """Each message of the episode and of its judging."""
    messages: list[Message] = []
    for turn in (*trace.turns, *trace.judging):
        messages += turn.prompt
        messages.append(turn.reply)
    return messages


def _images(messages: Sequence[Message]) -> list[Image]:
    return [image for message in messages if not isinstance(message.content, str) for image in message.images]


class _Appender:
    """A file that only grows, a whole line at a time: a line that cannot be written whole is taken back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.size = os.fstat(self._file).st_size

    def append(self, line: bytes) -> tuple[int, int]:
        """(offset, length) of the line as written, its newline included."""
        offset, written = self.size, 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, offset)
            raise
        self.size += len(line)
        return offset, len(line)

    def close(self) -> None:
        """Nothing is written after this: the number of a closed file may by then be another file's."""
        os.close(self._file)
        self._file = -1


def _manifest(path: Path) -> Manifest:
    try:
        raw = orjson.loads((path / "run.json").read_bytes())
        _refuse_other_schema(raw, path / "run.json")
        return Manifest.model_validate(raw)
    except FileNotFoundError:
        raise UsageError(f"{path} is no run directory: it has no run.json.") from None
    except OSError as error:
        raise UsageError(f"{path / 'run.json'} cannot be read: {error.strerror}.") from error
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise UsageError(f"{path / 'run.json'} is damaged: {_what_is_wrong(error)}") from error


def _refuse_other_schema(raw: Any, where: str | Path) -> None:
    schema = raw.get("schema") if isinstance(raw, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if schema != SCHEMA:
        raise UsageError(f"{where} has a record of schema {schema!r}; this envkit reads {SCHEMA}. Try a newer envkit.")


def _rows(path: Path) -> Iterator[RolloutRow]:
    """The index as far as it is right, then rows made from the traces that it has not got yet."""
    covered = 0
    traces = path / "rollouts.jsonl"
    size = traces.stat().st_size if traces.exists() else 0
    for line, _ in _whole_lines(path / "index.jsonl"):
        row = _row(line)
        if row is None or row.offset != covered or row.offset + row.length > size:
            break
        covered += row.length
        yield row
    for line, offset in _whole_lines(traces, covered):
        yield RolloutRow.of(_trace(line, f"{traces} (byte {offset})"), offset=offset, length=len(line))


def _row(line: bytes) -> RolloutRow | None:
    """The row; None where this is none, for the index can be made again."""
    try:
        row = RolloutRow(**{name: value for name, value in exact.loads(line).items() if name in _ROW_FIELDS})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return row if isinstance(row.length, int) else None  # pyright: ignore[reportUnnecessaryIsInstance] - as it was read


def _trace(line: bytes, where: str) -> Trace:
    try:
        raw = exact.loads(line)
        _refuse_other_schema(raw, where)
        return Trace.model_validate(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is damaged: {_what_is_wrong(error)}") from error


def _whole_lines(path: Path, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """(line with its newline, offset) of each whole line from `start`."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield line, start
            start += len(line)


def _lines(path: Path, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    """What `read` makes of each line; UsageError, naming it, for one of which it makes nothing."""
    for number, (line, _) in enumerate(_whole_lines(path), 1):
        try:
            value = read(exact.loads(line))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UsageError(f"{path}:{number} is damaged: {_what_is_wrong(error)}") from error
        yield value


def _what_is_wrong(error: Exception) -> str:
    """The error on one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"it has no {error}" if isinstance(error, LookupError) else str(error)


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    end = sum(len(line) for line, _ in _whole_lines(path))
    if end < path.stat().st_size:
        os.truncate(path, end)


def _recorded_task(line: dict[str, Any]) -> tuple[str, Task]:
    return str(line["hash"]), RecordedTask.model_validate(line["task"])


def _scoring(line: dict[str, Any]) -> Trace:
    """What a layer says of one rollout: a trace that has only its scores."""
    who = {"task_hash": line["task_hash"], "sample": line["sample"], "attempt": line["attempt"]}
    said = {name: line[name] for name in SCORING_FIELDS}
    return Trace.model_validate({"schema": SCHEMA, "id": "", "task_id": "", **who, **said})


def _fields(scoring: Trace) -> dict[str, Any]:
    return {name: getattr(scoring, name) for name in SCORING_FIELDS}


def _key(of: Trace | RolloutRow) -> _Key:
    return of.task_hash, of.sample, of.attempt


def _encoded(line: RolloutRow | dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half of a surrogate pair
        return exact.dumps(line if isinstance(line, dict) else asdict(line)) + b"\n"


def _pretty(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(by_alias=True, indent=2).encode() + b"\n"


def _write_atomically(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _locked(path: Path) -> TextIO:
    """The run's lock file, held until it is closed; UsageError where another process holds it."""
    file = (path / "lock").open("a")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined] # pyright: ignore
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UsageError(f"Another process is writing to {path}. Wait for it, or stop it, then resume.") from error
    return file


def _safe(name: str) -> str:
    """The name as part of a file name."""
    kept = "".join(c if c.isalnum() or c in "-." else "-" for c in name).strip(".-")
    return kept[:60] or "run"
