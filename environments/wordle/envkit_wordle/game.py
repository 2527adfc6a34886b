"""The game: a hidden word, guesses at it, and a mark for each letter of a guess."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

LETTERS = 5
GUESSES = 6
OPEN, CLOSE = "<guess>", "</guess>"


def marks(guess: str, word: str) -> str:
    """G, Y or X for each letter of the guess.

    G stands where word and guess have the same letter. Of what remains of the word, each letter is given once, from
    left to right, to those of the guess: these are Y, the rest X. So a letter has as many G and Y as the word has of
    it, at most.
    """
    left = Counter(theirs for ours, theirs in zip(guess, word, strict=True) if ours != theirs)
    said: list[str] = []
    for ours, theirs in zip(guess, word, strict=True):
        if ours == theirs:
            said.append("G")
        elif left[ours]:
            left[ours] -= 1
            said.append("Y")
        else:
            said.append("X")
    return "".join(said)


def read_guess(text: str) -> str | None:
    """The five letters, lower-case, in the only pair of tags; None where there are more tags, or other letters.

    Two guesses are none: a reply that lists words has not chosen.
    """
    if text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        return None
    inside = text.partition(OPEN)[2].partition(CLOSE)[0].strip().lower()
    return inside if len(inside) == LETTERS and inside.isascii() and inside.isalpha() else None


@dataclass
class Game:
    """A game under way; `tried` has each guess with its marks, and None for what was no guess and cost one."""

    word: str
    tried: list[tuple[str, str] | None] = field(default_factory=list[tuple[str, str] | None])

    @property
    def solved(self) -> bool:
        last = self.tried[-1] if self.tried else None
        return last is not None and last[0] == self.word

    @property
    def over(self) -> bool:
        return self.solved or len(self.tried) == GUESSES

    def guess(self, text: str) -> str:
        """Take what a reply guesses, and return what the player is told."""
        guess = read_guess(text)
        self.tried.append(None if guess is None else (guess, marks(guess, self.word)))
        head, left = f"Guess {len(self.tried)} of {GUESSES}", GUESSES - len(self.tried)
        if guess is None:
            return f"{head} is lost: end with one guess of {LETTERS} letters, {OPEN}WORD{CLOSE}. {left} left."
        return f"{head}:\n{' '.join(guess.upper())}\n{' '.join(marks(guess, self.word))}\n{left} left."
