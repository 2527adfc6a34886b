"""Wordle: a hidden word of five letters, six guesses, and a mark for each letter of a guess."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any, Literal

from envkit import Dataset, Environment, Limits, Message, Rollout, Task
from envkit.errors import UsageError

from .game import CLOSE, GUESSES, LETTERS, OPEN, Game
from .words import WORDS

RULES = f"""\
Let us play Wordle. I think of a common English word of {LETTERS} letters, and you find it with at most {GUESSES} \
guesses. A guess is any {LETTERS} letters. I answer with a mark under each letter:
G: the letter is right, in the right place.
Y: the word has the letter, in another place.
X: the word does not have the letter, or no more of them than are marked G or Y.
Think as long as you need, and end each reply with exactly one guess, as {OPEN}WORD{CLOSE}. A reply with none, with \
several, or with a guess of another length costs a guess.
Your first guess?"""


def environment(split: Literal["train", "test"] = "test", n: int | None = None, seed: int = 0) -> Environment[Task]:
    """`n` words of the split, all of them if not given, in the seed's order."""
    words = [word for word in WORDS if _is_test(word) == (split == "test")]
    n = len(words) if n is None else n
    if not 0 < n <= len(words):
        raise UsageError(f"The split {split!r} has {len(words)} words: n is at least 1 and at most that.")
    Random(f"{split}:{seed}").shuffle(words)

    def make(i: int, _rng: Random) -> Task:
        return Task(id=f"{split}/{seed}/{i}", answer=words[i])

    return Wordle(
        Dataset.generate(make, seed).take(n),
        rewards=[solved],
        metrics=[guesses, greens, misspoken],
        limits=Limits(max_turns=GUESSES),
    )


class Wordle(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        game = Game(rollout.task.answer)
        rollout.at_end(lambda: rollout.info.update(solved=game.solved, tried=game.tried))
        said = RULES
        while not game.over:
            said = game.guess((await rollout.chat.generate(said)).text)

    def oracle(self, task: Task, messages: Sequence[Message]) -> str:
        return f"{OPEN}{task.answer}{CLOSE}"


def solved(rollout: Rollout[Any]) -> float:
    """1 where the word was guessed."""
    return float(rollout.info["solved"])


def guesses(rollout: Rollout[Any]) -> float:
    """How many guesses were used up; one more than there are, where the word was not found."""
    return float(len(rollout.info["tried"]) if rollout.info["solved"] else GUESSES + 1)


def greens(rollout: Rollout[Any]) -> float:
    """The most letters that one guess had in their place, of those that there are."""
    return max((tried[1].count("G") for tried in rollout.info["tried"] if tried), default=0) / LETTERS


def misspoken(rollout: Rollout[Any]) -> float:
    """How many replies had no guess, or several."""
    return float(sum(tried is None for tried in rollout.info["tried"]))


def _is_test(word: str) -> bool:
    """A quarter of the words, by their own letters: no word changes its split as the list grows."""
    return hashlib.sha256(word.encode()).digest()[0] % 4 == 0
