"""Puzzles of reasoning-gym: any number of new tasks from a seed, scored by the library's own rules, strictly."""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from envkit import Dataset, EnvError, Environment, Rollout, Score, SingleTurnEnv, Task
from envkit.errors import UsageError

from .families import EXCLUDED

FORMAT = "\n\nEnd with your final answer between <answer> and </answer>, and nothing else between them."
LONGEST = 10_000
"""Characters of an answer that is scored; no puzzle has one that long, and scorers are not made for them."""

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)


class Puzzle(Task):
    """The task `index` of `size` that a family makes from a seed; `answer` is one that is right."""

    family: str
    seed: int
    size: int
    index: int


def environment(family: str = "all", n: int = 5, seed: int = 0) -> Environment[Puzzle]:
    names = _named(family)

    def tasks() -> Iterator[Puzzle]:
        for index in range(n):
            for name in names:
                entry = _entry(name, seed, n, index)
                yield Puzzle(
                    id=f"{name}/{seed}/{index}", prompt=entry["question"] + FORMAT, answer=str(entry["answer"]),
                    family=name, seed=seed, size=n, index=index,
                )  # fmt: skip

    return PuzzleEnv(Dataset(tasks), rewards=[solved], metrics=[partial])


class PuzzleEnv(SingleTurnEnv[Puzzle]):
    task_type = Puzzle

    def oracle(self, task: Puzzle, messages: Any) -> str:
        return f"<answer>{task.answer}</answer>"


async def solved(rollout: Rollout[Any]) -> Score:
    """1 where the library gives the answer its full score."""
    value, answer = await _scored(rollout)
    if answer is None:
        return Score(value=0.0, reason="no_box", judge=f"reasoning-gym {_version()}")
    return Score(value=float(value >= 1.0), answer=answer[:LONGEST], judge=f"reasoning-gym {_version()}")


async def partial(rollout: Rollout[Any]) -> float:
    """The library's own score, which some families give in parts."""
    return (await _scored(rollout))[0]


async def _scored(rollout: Rollout[Any]) -> tuple[float, str | None]:
    task: Puzzle = rollout.task
    found = _ANSWER.findall(rollout.reply)
    if not found or len(found[-1]) > LONGEST:
        return 0.0, found[-1] if found else None
    entry = _entry(task.family, task.seed, task.size, task.index)
    if entry["question"] + FORMAT != task.prompt:
        raise EnvError(
            f"reasoning-gym {_version()} makes another task of {task.id}: score it with the version that made it."
        )
    scorer = _dataset(task.family, task.seed, task.size)
    return float(await asyncio.to_thread(scorer.score_answer, found[-1], entry)), found[-1]


def _named(family: str) -> list[str]:
    """The families that are meant: all that can be trusted, or those between the commas. UsageError for others."""
    known = sorted(_library().factory.DATASETS)
    if family == "all":
        return [name for name in known if name not in EXCLUDED]
    names = [name.strip() for name in family.split(",")]
    for name in names:
        if name in EXCLUDED:
            raise UsageError(f"The family {name!r} is left out: {EXCLUDED[name]}.")
        if name not in known:
            near = difflib.get_close_matches(name, [k for k in known if k not in EXCLUDED], n=3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UsageError(f"reasoning-gym has no family {name!r}.{hint}")
    return names


@lru_cache(maxsize=256)
def _dataset(family: str, seed: int, size: int) -> Any:
    return _library().create_dataset(family, seed=seed, size=size)


@lru_cache(maxsize=4096)
def _entry(family: str, seed: int, size: int, index: int) -> Any:
    return _dataset(family, seed, size)[index]


def _library() -> Any:
    try:
        import reasoning_gym
        import reasoning_gym.factory
    except ImportError as error:
        raise UsageError("The puzzles are made by reasoning-gym: pip install 'envkit[puzzles]'") from error
    return reasoning_gym


@lru_cache
def _version() -> str:
    from importlib.metadata import version

    return version("reasoning-gym")
