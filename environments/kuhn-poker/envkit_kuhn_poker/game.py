"""Kuhn poker, its equilibrium, and what an action is worth against that. All values are exact, in chips.

The game and its solution: H. W. Kuhn, A simplified two-person poker, in Contributions to the Theory of Games I
(Annals of Mathematics Studies 24), 1950, pp. 97-103.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

CARDS = ("J", "Q", "K")
FORFEIT = "forfeit"
"""What stands in a history for an action that was not legal; it ends the hand as a fold does."""

History = tuple[str, ...]
"""The actions of a hand so far; those of who acts first have even places."""

ALPHA = Fraction(1, 6)
"""How often the first to act bets with a J. Each value from 0 to 1/3 is an equilibrium; inside of these bounds every
card is played in every way that any of them plays it, so that no mistake of the other side goes unpunished."""

BOLD: Mapping[tuple[str, History], Fraction] = {
    ("J", ()): ALPHA,
    ("Q", ()): Fraction(0),
    ("K", ()): 3 * ALPHA,
    ("J", ("check", "bet")): Fraction(0),
    ("Q", ("check", "bet")): ALPHA + Fraction(1, 3),
    ("K", ("check", "bet")): Fraction(1),
    ("J", ("check",)): Fraction(1, 3),
    ("Q", ("check",)): Fraction(0),
    ("K", ("check",)): Fraction(1),
    ("J", ("bet",)): Fraction(0),
    ("Q", ("bet",)): Fraction(1, 3),
    ("K", ("bet",)): Fraction(1),
}
"""How often the equilibrium bets or calls with this card after these actions; else it checks or folds."""


def legal(history: History) -> tuple[str, str]:
    """The timid and the bold action."""
    return ("fold", "call") if history[-1:] == ("bet",) else ("check", "bet")


def over(history: History) -> bool:
    return history[-1:] in (("call",), ("fold",), (FORFEIT,)) or history == ("check", "check")


def won(first: str, second: str, history: History) -> int:
    """The chips that who acts first has won, of a hand that is over; the other side has lost them.

    Both have put in one chip, and a second one where a bet was called. Who folds or forfeits loses the one.
    """
    if history[-1] in ("fold", FORFEIT):
        return 1 if len(history) % 2 == 0 else -1
    stake = 2 if history[-1] == "call" else 1
    return stake if CARDS.index(first) > CARDS.index(second) else -stake


def chance(card: str, history: History, action: str) -> Fraction:
    """How often the equilibrium takes this action with this card."""
    bold = BOLD[card, history]
    return bold if action == legal(history)[1] else 1 - bold


@lru_cache
def values(card: str, history: History) -> dict[str, Fraction]:
    """What each action, and a forfeit, is worth to who holds the card and is to act: chips won on average.

    The other side plays the equilibrium, its card is unseen and as likely as its actions make it, and the actions
    after this one are best replies.
    """
    seat = len(history) % 2
    reach = {other: Fraction(1) for other in CARDS if other != card}
    for place in range(1 - seat, len(history), 2):
        reach = {other: part * chance(other, history[:place], history[place]) for other, part in reach.items()}
    total = sum(reach.values())
    return {a: _worth(card, seat, (*history, a), reach) / total for a in (*legal(history), FORFEIT)}


def lost(card: str, history: History, action: str) -> Fraction:
    """The chips that this action loses on average against what would have been best; 0 is no mistake."""
    worth = values(card, history)
    return max(worth.values()) - worth[action]


def _worth(card: str, seat: int, history: History, reach: Mapping[str, Fraction]) -> Fraction:
    """The chips won, times how likely each of the other side's cards is to have come here."""
    if over(history):
        gains = {o: won(card, o, history) if seat == 0 else -won(o, card, history) for o in reach}
        return sum((part * gains[other] for other, part in reach.items()), Fraction(0))
    after = {action: (*history, action) for action in legal(history)}
    if len(history) % 2 == seat:
        return max(_worth(card, seat, then, reach) for then in after.values())
    parts = {action: {o: p * chance(o, history, action) for o, p in reach.items()} for action in after}
    return sum((_worth(card, seat, after[action], parts[action]) for action in after), Fraction(0))
