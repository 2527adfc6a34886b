"""Kuhn poker: against its equilibrium, scored by mistakes and not by luck; or self-play, scored by the chips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any, Literal

from envkit import Chat, Dataset, Environment, Limits, Message, Rollout, Task
from envkit.errors import UsageError

from .game import CARDS, FORFEIT, History, chance, legal, lost, over, values, won

Player = Literal["policy", "opponent"]
PLAYERS: tuple[Player, Player] = ("policy", "opponent")
MOST_HANDS = 50
GIVES_UP = ("length", "context", "max_total_tokens")
"""Limits at which an episode stops for a reply, or a conversation, that one side made too long."""
OPEN, CLOSE = "<action>", "</action>"
RULES = f"""\
You play Kuhn poker against one opponent. There are three cards: J, Q and K; K is the highest. In each hand both of \
you put one chip into the pot and are dealt one card each, which the other does not see. Who acts first may check or \
bet one more chip. After a check, the other may check too, which ends the hand, or bet. After a bet, the other may \
fold, which gives the pot away, or call with one more chip. If nobody folded, the cards are shown and the higher one \
takes the pot.
Think as long as you need, and end each reply with exactly one action in tags, such as {OPEN}fold{CLOSE} where it is \
allowed. A reply with no action, with several ({OPEN}check{CLOSE} {OPEN}bet{CLOSE}) or with one that is not allowed \
forfeits the hand: its pot is your opponent's.
"""

_HELD = re.compile(r"You hold (J|Q|K)\.")
_SO_FAR = re.compile(r"Actions so far: ([a-z, ]+)\.")


class Match(Task):
    """Some hands: in each, the policy's card and the opponent's. `first` acts first in the first, then they change."""

    deals: tuple[tuple[str, str], ...]
    first: Player


def environment(
    opponent: Literal["equilibrium", "self"] = "equilibrium", hands: int = 12, n: int = 100, seed: int = 0
) -> Environment[Match]:
    """`n` matches of so many hands, dealt by the seed."""
    if not 0 < hands <= MOST_HANDS:
        raise UsageError(f"A match has 1 to {MOST_HANDS} hands, not {hands}.")

    def make(i: int, rng: Random) -> Match:
        deals = tuple((a, b) for a, b in (rng.sample(CARDS, 2) for _ in range(hands)))
        return Match(id=f"{seed}/{hands}/{i}", deals=deals, first=PLAYERS[i % 2])

    against_itself = opponent == "self"
    env = KuhnPoker(
        Dataset.generate(make, seed).take(n),
        rewards=[chips if against_itself else flawless],
        metrics=[flawless if against_itself else chips, sound, lost_by_mistakes, expected_chips, forfeits],
        limits=Limits(max_turns=2 * MOST_HANDS),
    )
    env.against_itself = against_itself
    return env


class KuhnPoker(Environment[Match]):
    """`info["hands"]` has each hand that was begun or given up: both cards, who acts first, and the actions."""

    task_type = Match
    against_itself = False

    async def run(self, rollout: Rollout[Match]) -> None:
        task = rollout.task
        chats: dict[Player, Chat] = {"policy": rollout.chat}
        if self.against_itself:
            chats["opponent"] = rollout.open("opponent")
        news = dict.fromkeys(PLAYERS, RULES)
        hands: list[dict[str, Any]] = []
        rollout.at_end(lambda: rollout.info.update(hands=_with_given_up(hands, task, rollout.trace.stop)))
        for number in range(len(task.deals)):
            hand = _dealt(task, number)
            hands.append(hand)
            cards, order, actions = hand["cards"], hand["order"], hand["actions"]
            while not over(history := tuple(actions)):
                player = order[len(history) % 2]
                if player not in chats:
                    actions.append(_drawn(rollout.rng, cards[player], history))
                    continue
                asked = f"{news[player]}\n{_asked(number, len(task.deals), cards[player], history)}"
                news[player] = ""
                actions.append(read_action((await chats[player].generate(asked.strip())).text, history))
            for player in chats:
                news[player] += f"{_told(number, player, hand)}\n"

    def oracle(self, task: Match, messages: Sequence[Message]) -> str:
        """A best reply to the equilibrium."""
        asked = messages[-1].text
        actions = _SO_FAR.findall(asked)[-1]
        history = () if actions == "none" else tuple(actions.split(", "))
        worth = values(_HELD.findall(asked)[-1], history)
        return f"{OPEN}{max(worth, key=lambda action: worth[action])}{CLOSE}"


def read_action(text: str, history: History) -> str:
    """The legal action in the only pair of tags; a forfeit where there is none, or more than one pair."""
    if text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        return FORFEIT
    action = text.partition(OPEN)[2].partition(CLOSE)[0].strip().lower()
    return action if action in legal(history) else FORFEIT


def flawless(rollout: Rollout[Any]) -> float:
    """1 where the policy played every hand to its end without a mistake.

    A mistake is an action that wins fewer chips on average than another would have, against an opponent in
    equilibrium whose card is not seen; what the cards and the opponent's draws then brought counts for nothing. A
    forfeit is one too, also where it costs no more than a fold.
    """
    return float(len(_sound(rollout)) == len(rollout.task.deals))


def sound(rollout: Rollout[Any]) -> float:
    """The share of the hands that the policy played to their end without a mistake."""
    return len(_sound(rollout)) / len(rollout.task.deals)


def chips(rollout: Rollout[Any]) -> dict[str, float]:
    """What each side won of what could be won at most, two chips a hand: from -1 to 1, together 0."""
    total = sum(_won(hand, "policy") for hand in _hands(rollout)) / (2 * len(rollout.task.deals))
    return {"policy": total, "opponent": -total}


def lost_by_mistakes(rollout: Rollout[Any]) -> float | None:
    """The chips a hand that the policy's mistakes lose on average against an opponent in equilibrium."""
    played = [losses for hand in _hands(rollout) if (losses := _losses(hand))]
    return _mean([float(sum(loss for _, loss in losses)) for losses in played])


def expected_chips(rollout: Rollout[Any]) -> float | None:
    """The chips a hand that the policy's play wins on average, with its own cards, against the equilibrium."""
    played = [losses for hand in _hands(rollout) if (losses := _losses(hand))]
    return _mean([float(losses[0][0] - sum(loss for _, loss in losses)) for losses in played])


def forfeits(rollout: Rollout[Any]) -> float:
    """How many hands the policy forfeited by a reply without a legal action."""
    return float(sum(map(_forfeited, _hands(rollout))))


def _dealt(task: Match, number: int) -> dict[str, Any]:
    """A hand before anybody has acted."""
    order = PLAYERS if (task.first == "policy") == (number % 2 == 0) else PLAYERS[::-1]
    return {"cards": dict(zip(PLAYERS, task.deals[number], strict=True)), "order": order, "actions": []}


def _with_given_up(hands: list[dict[str, Any]], task: Match, stop: str) -> list[dict[str, Any]]:
    """The hands, and where a side ended the match by being too long, that it forfeits the one under way and all after
    it: neither a lost hand nor a match against a better player can be got rid of so."""
    if stop not in GIVES_UP:
        return hands
    *before, last = hands
    player = last["order"][len(last["actions"]) % 2]
    rest = [_dealt(task, number) for number in range(len(hands), len(task.deals))]
    first = sorted(PLAYERS, key=lambda each: each != player)
    given_up = [{**hand, "order": first, "actions": [FORFEIT]} for hand in rest]
    return [*before, {**last, "actions": [*last["actions"], FORFEIT]}, *given_up]


def _drawn(rng: Random, card: str, history: History) -> str:
    """An action of the equilibrium."""
    timid, bold = legal(history)
    return bold if rng.random() < chance(card, history, bold) else timid


def _hands(rollout: Rollout[Any]) -> list[dict[str, Any]]:
    """The hands that came to their end."""
    return [hand for hand in rollout.info["hands"] if over(tuple(hand["actions"]))]


def _sound(rollout: Rollout[Any]) -> list[dict[str, Any]]:
    """The hands without a mistake of the policy."""
    return [hand for hand in _hands(rollout) if not (_forfeited(hand) or any(loss for _, loss in _losses(hand)))]


def _losses(hand: dict[str, Any]) -> list[tuple[Fraction, Fraction]]:
    """For each of the policy's actions, what the best one was worth, and the chips that it lost against that.

    There are none where the opponent began with a forfeit.
    """
    card, actions = hand["cards"]["policy"], tuple(hand["actions"])
    places = range(hand["order"].index("policy"), len(actions), 2)
    return [(max(values(card, actions[:i]).values()), lost(card, actions[:i], actions[i])) for i in places]


def _won(hand: dict[str, Any], player: str) -> int:
    first, second = hand["order"]
    total = won(hand["cards"][first], hand["cards"][second], tuple(hand["actions"]))
    return total if player == first else -total


def _forfeited(hand: dict[str, Any], player: str = "policy") -> bool:
    """Whether this player ended the hand by what was no legal action."""
    return hand["actions"][-1] == FORFEIT and hand["order"][(len(hand["actions"]) - 1) % 2] == player


def _mean(numbers: Sequence[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def _asked(number: int, hands: int, card: str, history: History) -> str:
    place = "second" if len(history) % 2 else "first"
    choices = " or ".join(f"{OPEN}{action}{CLOSE}" for action in legal(history))
    return (
        f"Hand {number + 1} of {hands}. You act {place}. You hold {card}. "
        f"Actions so far: {', '.join(history) or 'none'}.\nYour action: {choices}"
    )


def _told(number: int, player: str, hand: dict[str, Any]) -> str:
    """What a player hears of a hand's end: the other's card only where the cards were shown."""
    other = next(name for name in PLAYERS if name != player)
    gain, last = _won(hand, player), hand["actions"][-1]
    if _forfeited(hand, player):
        how = "your reply had not exactly one allowed action in tags, so you forfeit it"
    elif last == FORFEIT:
        how = "your opponent forfeited it"
    elif last == "fold":
        how = f"the actions were {', '.join(hand['actions'])}"
    else:
        how = f"the actions were {', '.join(hand['actions'])}, and your opponent held {hand['cards'][other]}"
    amount = "1 chip" if abs(gain) == 1 else f"{abs(gain)} chips"
    return f"Hand {number + 1} is over: {how}. You {'win' if gain > 0 else 'lose'} {amount}."
