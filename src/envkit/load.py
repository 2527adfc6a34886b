"""Tasks from rows: of the Hugging Face hub, of a file, of a replay.

How a row becomes a task belongs to the environment; where the rows come from can be replaced by whoever runs it
(`read_data`). Nothing is read before the first iteration, and nothing ever stands in for data that cannot be had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from pydantic import ValidationError

from envkit.dataset import Dataset, TaskT
from envkit.environment import Environment
from envkit.errors import UsageError
from envkit.rows import FileRows, HubRows, Row, Rows
from envkit.task import Task
from envkit.types import Message

Prompt = str | tuple[Message, ...]


class DuplicateId(UsageError):
    """Two rows make tasks of one id."""


@overload
def hf_tasks(
    dataset_id: str, split: str, *, make: Callable[[Row], TaskT],
    config: str | None = None, revision: str | None = None,
) -> RowDataset[TaskT]: ...  # fmt: skip


@overload
def hf_tasks(
    dataset_id: str, split: str, *, prompt: str | Callable[[Row], Prompt],
    answer: str | Callable[[Row], Any] | None = None, id: str | Callable[[Row], str] | None = None,
    config: str | None = None, revision: str | None = None,
) -> RowDataset[Task]: ...  # fmt: skip


def hf_tasks(
    dataset_id: str,
    split: str,
    *,
    prompt: str | Callable[[Row], Prompt] = "prompt",
    answer: str | Callable[[Row], Any] | None = None,
    id: str | Callable[[Row], str] | None = None,  # noqa: A002 - the task's own word
    make: Callable[[Row], Any] | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> RowDataset[Any]:
    """Tasks from a dataset of the Hugging Face hub; pin `revision` to a commit.

        hf_tasks("HuggingFaceH4/MATH-500", "test", prompt="problem", answer="answer", id="unique_id")

    `prompt`, `answer` and `id` are names of columns, or functions of the row. Without `id` a task is named by a hash
    of its prompt, which stays when rows move. `make`, a function from row to task, stands in for all three.
    """
    return RowDataset(HubRows(dataset_id, split, config, revision), make or RowTask(prompt, answer, id))


@dataclass(frozen=True)
class RowTask:
    """Makes a plain task of a row: each part is a column, or a function of the row."""

    prompt: str | Callable[[Row], Prompt]
    answer: str | Callable[[Row], Any] | None = None
    id: str | Callable[[Row], str] | None = None

    def __call__(self, row: Row) -> Task:
        prompt = _part(self.prompt, row)
        if not prompt:
            raise UsageError(f"{row.place}: the prompt is empty")
        answer = None if self.answer is None else _part(self.answer, row)
        if self.answer is not None and answer is None:
            raise UsageError(f"{row.place}: there is no answer")
        name = _prompt_hash(prompt) if self.id is None else str(_part(self.id, row))
        return Task(id=name, prompt=prompt, answer=answer)


class RowDataset(Dataset[TaskT]):
    """Tasks made from rows. What `take`, `filter` and `shuffle` did is done again when the rows are replaced."""

    def __init__(
        self,
        rows: Rows,
        make: Callable[[Row], TaskT],
        steps: tuple[Callable[[Dataset[TaskT]], Dataset[TaskT]], ...] = (),
    ) -> None:
        super().__init__(self._stepped, about=rows.about)
        self._rows = rows
        self._make = make
        self._steps = steps

    def with_rows(self, rows: Rows) -> RowDataset[TaskT]:
        """The same tasks made from other rows."""
        return RowDataset(rows, self._make, self._steps)

    def take(self, n: int) -> RowDataset[TaskT]:
        return self._then(lambda tasks: tasks.take(n))

    def filter(self, keep: Callable[[TaskT], bool]) -> RowDataset[TaskT]:
        return self._then(lambda tasks: tasks.filter(keep))

    def shuffle(self, seed: int = 0) -> RowDataset[TaskT]:
        return self._then(lambda tasks: tasks.shuffle(seed))

    def _then(self, step: Callable[[Dataset[TaskT]], Dataset[TaskT]]) -> RowDataset[TaskT]:
        return RowDataset(self._rows, self._make, (*self._steps, step))

    def _stepped(self) -> Iterator[TaskT]:
        tasks: Dataset[TaskT] = Dataset(self._tasks)
        for step in self._steps:
            tasks = step(tasks)
        return iter(tasks)

    def _tasks(self) -> Iterator[TaskT]:
        """A task for each row; UsageError, naming the row, for one that is malformed or has the id of another."""
        places: dict[str, str] = {}
        for row in self._rows:
            task = self._task(row)
            if task.id in places:
                raise DuplicateId(f"{row.place}: the id {task.id!r} is that of {places[task.id]}; ids must be unique")
            places[task.id] = row.place
            yield task
        if not places:
            raise UsageError(f"{self._rows} has no rows.")

    def _task(self, row: Row) -> TaskT:
        try:
            return self._make(row)
        except UsageError:
            raise
        except ValidationError as error:
            raise UsageError(f"{row.place}: {_first(error)}") from error
        except Exception as error:
            raise UsageError(f"{row.place}: no task can be made of it: {type(error).__name__}: {error}") from error


def read_data(env: Environment[Any], data: str, *, sample: Path | None = None) -> None:
    """Give the environment other data: `sample` (the file that ships with it), `replay:FILE`, or a file of rows."""
    if data.startswith("replay:"):
        rows = FileRows(Path(data.removeprefix("replay:")))
        env.tasks = Dataset(lambda: _replayed(rows, env.task_type), about={**rows.about, "data": "replay"})
        return
    if not isinstance(env.tasks, RowDataset):
        name = env.name or type(env).__name__
        raise UsageError(f"{name} makes its own tasks: there are no rows that --data {data} could replace.")
    if data != "sample":
        env.tasks = env.tasks.with_rows(FileRows(Path(data)))
        return
    if sample is None or not sample.is_file():
        raise UsageError(f"{env.name or type(env).__name__} ships no sample.jsonl; --data FILE reads a file of yours.")
    rows = FileRows(sample)
    rows.about.update(file=sample.name, data="sample")
    env.tasks = env.tasks.with_rows(rows)


def _replayed(rows: FileRows, task_type: type[Task]) -> Iterator[Task]:
    """The tasks that a replay file answers, each once, under the ids by which it is replayed."""
    seen: set[str] = set()
    for row in rows:
        name = str(row["task_id"])
        if name in seen:
            continue
        seen.add(name)
        try:
            yield task_type(id=name, prompt=row["prompt"], answer=row["gold"])
        except ValidationError as error:
            raise UsageError(f"{row.place}: no {task_type.__name__} can be made of it: {_first(error)}") from error
    if not seen:
        raise UsageError(f"{rows} has no rows.")


def _part(source: str | Callable[[Row], Any], row: Row) -> Any:
    return row[source] if isinstance(source, str) else source(row)


def _prompt_hash(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else "\n".join(message.model_dump_json() for message in prompt)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _first(error: ValidationError) -> str:
    """The first complaint of a validation error, on one line."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
