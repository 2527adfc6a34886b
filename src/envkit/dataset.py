"""`Dataset`: tasks that can be iterated again and again, lazily, maybe for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from random import Random
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from envkit.errors import UsageError
from envkit.task import Task

if TYPE_CHECKING:
    import datasets  # pyright: ignore[reportMissingTypeStubs]

TaskT = TypeVar("TaskT", bound=Task)


class Dataset(Generic[TaskT]):
    """Tasks from a source that starts anew at every iteration.

    `source` is a function that returns the tasks, or a collection of them (not an iterator, which ends once).
    `endless` says that iteration does not stop. `about` names where the tasks come from: id, revision,
    fingerprint, licence; it is recorded with each run.
    """

    def __init__(
        self,
        source: Callable[[], Iterable[TaskT]] | Iterable[TaskT],
        *,
        endless: bool = False,
        about: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(source, Iterator):
            raise UsageError("A dataset needs a source that can be read again: pass a list or a function, no iterator.")
        self._source = source
        self.endless = endless
        self.about = about or {}

    def __iter__(self) -> Iterator[TaskT]:
        return iter(self._source() if callable(self._source) else self._source)

    @classmethod
    def generate(cls, make: Callable[[int, Random], TaskT], seed: int = 0) -> Dataset[TaskT]:
        """Endless tasks; the i-th is `make(i, rng)` with an `rng` of its own, whatever the others drew."""

        name = getattr(make, "__qualname__", type(make).__qualname__)

        def tasks() -> Iterator[TaskT]:
            return (make(i, Random(f"{seed}:{i}")) for i in count())

        return Dataset(tasks, endless=True, about={"generator": name, "seed": seed})

    def take(self, n: int) -> Dataset[TaskT]:
        """The first n tasks."""
        return Dataset(lambda: islice(self, n), about=self.about)

    def filter(self, keep: Callable[[TaskT], bool]) -> Dataset[TaskT]:
        """The tasks for which `keep` is true."""
        return Dataset(lambda: filter(keep, self), endless=self.endless, about=self.about)

    def shuffle(self, seed: int = 0) -> Dataset[TaskT]:
        """The tasks ordered by a hash of seed and id: the same order on every machine, whatever the file's order."""
        if self.endless:
            raise UsageError("An endless dataset cannot be shuffled; take(n) of it can.")

        def place(task: TaskT) -> bytes:
            return hashlib.sha256(f"{seed}:{task.id}".encode()).digest()

        return Dataset(lambda: sorted(self, key=place), about=self.about)

    def to_hf(self) -> datasets.Dataset:
        """The tasks as a `datasets.Dataset`, one column a field; `sandbox` only where a task has one."""
        if self.endless:
            raise UsageError("An endless dataset has no table; take(n) of it has.")
        from datasets import Dataset as Table  # pyright: ignore[reportMissingTypeStubs]

        rows = [task.model_dump(mode="json") for task in self]
        if not any(row["sandbox"] for row in rows):
            rows = [{name: value for name, value in row.items() if name != "sandbox"} for row in rows]
        return Table.from_list(rows)  # pyright: ignore[reportUnknownMemberType]
