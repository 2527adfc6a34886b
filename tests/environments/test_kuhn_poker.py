"""kuhn-poker: its gates, its cuts, the equilibrium and the mistakes against it, and self-play for zero."""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
from environments.cuts import cut_everywhere
from hypothesis import given
from hypothesis import strategies as st

from envkit import Message, Scripted, Services, Trace, run_rollout
from envkit.clients.scripted import Nop, Oracle
from envkit.errors import UsageError
from envkit.lifecycle import score
from envkit.packages.check import check
from envkit.packages.find import find

GAME: Any = __import__(type(find("kuhn-poker").load()).__module__ + ".game", fromlist=["won"])


def load(opponent: str = "equilibrium", **args: Any) -> Any:
    return find("kuhn-poker").load(opponent=opponent, **args)


def match(env: Any, *deals: str, first: str = "policy") -> Any:
    """Hands of these cards, the policy's first: "QK"."""
    return env.task_type(id="one", deals=[tuple(deal) for deal in deals], first=first)


def say(action: str) -> str:
    return f"I would. <action>{action}</action>"


def worth(card: str, other: str, seat: int, own: Any, history: tuple[str, ...] = ()) -> Fraction:
    """What a strategy (how often it is bold) wins against the equilibrium by these cards; `seat` acts first at 0."""
    if GAME.over(history):
        return Fraction(GAME.won(card, other, history) if seat == 0 else -GAME.won(other, card, history))
    mine = len(history) % 2 == seat
    timid, bold = GAME.legal(history)
    often = own(card, history) if mine else GAME.BOLD[other, history]
    return often * worth(card, other, seat, own, (*history, bold)) + (1 - often) * worth(
        card, other, seat, own, (*history, timid)
    )


def mean_worth(seat: int, own: Any) -> Fraction:
    return sum((worth(a, b, seat, own) for a, b in permutations(GAME.CARDS, 2)), Fraction(0)) / 6


async def test_every_gate_is_passed() -> None:
    gates = await check(find("kuhn-poker"), n=8)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_it_may_be_cut_at_every_turn_against_the_equilibrium() -> None:
    env = load(hands=4)
    for client, reward in ((Oracle(env), 1.0), (Nop(), 0.0)):
        for traces in (await cut_everywhere(env, list(env.tasks)[:3], client)).values():
            assert len(traces) >= 5
            assert [trace.reward for trace in traces] == [0.0] * (len(traces) - 1) + [reward]


async def test_it_may_be_cut_at_every_turn_of_self_play() -> None:
    env = load("self", hands=3)
    for traces in (await cut_everywhere(env, list(env.tasks)[:3], Oracle(env))).values():
        for trace in traces:
            assert sum(trace.agent_rewards.values()) == 0
            assert abs(trace.reward or 0.0) <= 1


# --- the game and its equilibrium --------------------------------------------------------------------------------


def test_the_equilibrium_is_worth_a_chip_in_eighteen_to_who_acts_second() -> None:
    def equilibrium(card: str, history: tuple[str, ...]) -> Fraction:
        return GAME.BOLD[card, history]

    assert mean_worth(0, equilibrium) == Fraction(-1, 18)
    assert mean_worth(1, equilibrium) == Fraction(1, 18)


@given(st.integers(0, 1), st.lists(st.fractions(0, 1, max_denominator=8), min_size=6, max_size=6))
def test_no_strategy_wins_more_from_it_and_only_mistakes_win_less(seat: int, often: list[Fraction]) -> None:
    places = [place for place in GAME.BOLD if len(place[1]) % 2 == seat]
    own = dict(zip(places, often, strict=True))
    total = mean_worth(seat, lambda card, history: own[card, history])
    best = Fraction(1 - 2 * (seat == 0), 18)
    assert total <= best
    erring = any(
        (often > 0 and GAME.lost(card, history, GAME.legal(history)[1]))
        or (often < 1 and GAME.lost(card, history, GAME.legal(history)[0]))
        for (card, history), often in own.items()
        if seat == 1 or not history or own[card, ()] < 1  # who always bets is never asked again
    )
    assert (total < best) == erring


def test_the_mistakes_are_those_that_the_card_names() -> None:
    mistakes = {
        (card, history, action)
        for card, history in GAME.BOLD
        for action in GAME.legal(history)
        if GAME.lost(card, history, action)
    }
    assert mistakes == {
        ("Q", (), "bet"),
        ("Q", ("check",), "bet"),
        ("K", ("check",), "check"),
        *(("J", history, "call") for history in (("bet",), ("check", "bet"))),
        *(("K", history, "fold") for history in (("bet",), ("check", "bet"))),
    }


def test_values_worked_by_hand() -> None:
    """With Q after a check: J checks in 5 of 6, K in 3 of 6. A bet wins 1 from J, and loses 2 to K, which calls."""
    assert GAME.values("Q", ("check",)) == {"check": Fraction(5 - 3, 8), "bet": Fraction(5 - 6, 8), "forfeit": -1}


@pytest.mark.parametrize(("bold", "hand", "match"), [(Fraction(1, 2), 0.73, 0.02), (Fraction(0), 0.81, 0.06)])
def test_a_hand_is_sound_by_chance_as_often_as_the_card_says(bold: Fraction, hand: float, match: float) -> None:
    def fine(card: str, other: str, seat: int, history: tuple[str, ...] = ()) -> Fraction:
        if GAME.over(history):
            return Fraction(1)
        total = Fraction(0)
        for action in GAME.legal(history):
            mine = len(history) % 2 == seat
            often = (bold if action == GAME.legal(history)[1] else 1 - bold) if mine else None
            often = GAME.chance(other, history, action) if often is None else often
            if not (mine and GAME.lost(card, history, action)):
                total += often * fine(card, other, seat, (*history, action))
        return total

    first, second = (float(sum(fine(a, b, seat) for a, b in permutations(GAME.CARDS, 2)) / 6) for seat in (0, 1))
    assert (round((first + second) / 2, 2), round((first * second) ** 6, 2)) == (hand, match)


# --- the episode -------------------------------------------------------------------------------------------------


async def test_a_hand_is_told_action_by_action_and_scored_by_what_was_known() -> None:
    env = load()
    trace = await run_rollout(env, match(env, "QJ", "JK"), Scripted([say("check"), say("call"), say("fold")]))
    first, *later = [turn.prompt[-1].text for turn in trace.turns]
    asked = "Hand 1 of 2. You act first. You hold Q. Actions so far: none.\n"
    assert asked + "Your action: <action>check</action> or <action>bet</action>" in first
    hand, *_ = trace.info["hands"]
    assert hand["actions"] in (["check", "check"], ["check", "bet", "call"])
    ending = f"Hand 1 is over: the actions were {', '.join(hand['actions'])}, and your opponent held J. You win"
    assert any(ending in text for text in later)


async def test_luck_is_not_paid_and_bad_luck_costs_nothing() -> None:
    env = load()
    unlucky = await run_rollout(env, match(env, "QK"), Scripted([say("check"), say("call")]))
    assert (unlucky.reward, unlucky.metrics["chips"], unlucky.metrics["lost_by_mistakes"]) == (1.0, -1.0, 0.0)
    assert unlucky.metrics["expected_chips"] == pytest.approx(-1 / 3)
    lucky = await run_rollout(env, match(env, "QJ"), Scripted([say("bet")]))  # J folds
    assert (lucky.reward, lucky.metrics["chips"], lucky.metrics["sound"]) == (0.0, 0.5, 0.0)
    assert lucky.metrics["lost_by_mistakes"] == pytest.approx(1 / 6)
    assert lucky.metrics["expected_chips"] == pytest.approx(-1 / 2)


async def test_one_mistake_among_many_hands_is_no_flawless_match() -> None:
    env = load()
    trace = await run_rollout(env, match(env, "JK", "KQ"), Scripted([say("bet"), say("check")]))
    assert [hand["actions"] for hand in trace.info["hands"]] == [["bet", "call"], ["check", "check"]]
    assert (trace.reward, trace.metrics["sound"]) == (0.0, 0.5)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "check",
        "<action>check",
        "<action>raise</action>",
        "<action>fold</action>",
        "<action>check</action> or <action>bet</action>",
        "<action>check, bet</action>",
        "<think>so <action>check</action>",
    ],
)
async def test_what_is_no_single_legal_action_forfeits_the_hand_and_is_a_mistake_also_where_it_costs_nothing(
    reply: str,
) -> None:
    env = load()
    trace = await run_rollout(env, match(env, "JK", "JQ"), Scripted(lambda _: reply))
    assert (trace.outcome, trace.reward, trace.metrics["sound"]) == ("completed", 0.0, 0.0)
    assert (trace.metrics["forfeits"], trace.metrics["chips"]) == (2.0, -0.5)
    told = "your reply had not exactly one allowed action in tags, so you forfeit it. You lose 1 chip.\n"
    assert trace.turns[1].prompt[-1].text.startswith(f"Hand 1 is over: {told}")


async def test_the_opponent_plays_the_same_at_each_run_of_a_sample_and_mixes_over_samples() -> None:
    env = load()
    task = match(env, *["KJ"] * 40, first="opponent")

    async def bets(sample: int) -> list[str]:
        trace = await run_rollout(env, task, Oracle(env), sample=sample)
        return [hand["actions"][0] for hand in trace.info["hands"] if hand["order"][0] == "opponent"]

    firsts = [await bets(sample) for sample in range(20)]
    assert firsts[0] == await bets(0)
    assert firsts[0] != firsts[1]
    share = sum(said.count("bet") for said in firsts) / 400
    assert 0.1 < share < 0.24  # 1/6 of 400, and four standard deviations


async def test_self_play_records_both_sides_trains_both_and_pays_what_one_wins_of_the_other() -> None:
    env = load("self")
    for task in list(env.tasks)[:4]:
        trace = await run_rollout(env, task, Scripted(_bold))
        assert {turn.agent for turn in trace.turns} == {"policy", "opponent"}
        assert all(turn.trainable for turn in trace.turns)
        higher = [2 if GAME.CARDS.index(mine) > GAME.CARDS.index(theirs) else -2 for mine, theirs in task.deals]
        assert trace.agent_rewards == {"policy": sum(higher) / 24, "opponent": -sum(higher) / 24}
        assert trace.reward == trace.agent_rewards["policy"]


async def test_a_side_never_hears_a_card_that_was_not_shown() -> None:
    env = load("self", hands=6)
    for task in list(env.tasks)[:6]:
        trace = await run_rollout(env, task, Scripted(_bluff))
        for agent in ("policy", "opponent"):
            heard = "\n".join(message.text for turn in trace.turns if turn.agent == agent for message in turn.prompt)
            for number, hand in enumerate(trace.info["hands"], 1):
                own, other = hand["cards"][agent], hand["cards"]["opponent" if agent == "policy" else "policy"]
                assert set(re.findall(rf"Hand {number} of 6.*You hold (\w)", heard)) <= {own}
                told = re.findall(rf"Hand {number} is over: (.*)", heard)
                shown = [said for said in told if "your opponent held" in said]
                assert shown == ([] if hand["actions"][-1] == "fold" else told)
                assert all(f"your opponent held {other}." in said for said in shown)


async def test_who_forfeits_in_self_play_pays_the_other_and_has_no_influence_on_its_metrics() -> None:
    env = load("self")
    trace = await run_rollout(env, match(env, "KQ", first="opponent"), Scripted([""]))
    assert trace.agent_rewards == {"policy": 0.5, "opponent": -0.5}
    assert (trace.metrics["forfeits"], trace.metrics["expected_chips"]) == (0.0, None)


class Overlong(Scripted):
    """Says these; the last of them has no end."""

    def __init__(self, *replies: str) -> None:
        super().__init__(list(replies))
        self.left = len(replies)

    async def complete(self, request: Any) -> Any:
        said = await super().complete(request)
        self.left -= 1
        return said if self.left else replace(said, finish_reason="length")


@pytest.mark.parametrize(
    ("replies", "worth", "forfeits"),
    [
        (["hmm"], -3, {"first": 3, "second": 0}),
        ([say("bet"), "hmm"], 3, {"first": 0, "second": 3}),
        ([say("check"), say("bet"), "hmm"], -3, {"first": 3, "second": 0}),
        (
            [say("bet"), say("call"), "hmm"],
            4,
            {"first": 0, "second": 2},
        ),  # two chips for K, and two hands that are given up
    ],
)
async def test_a_reply_without_end_gives_up_the_hand_and_the_match(
    replies: list[str], worth: int, forfeits: dict[str, int]
) -> None:
    env = load("self")
    for first, second, deal, place in (("policy", "opponent", "KQ", "first"), ("opponent", "policy", "QK", "second")):
        trace = await run_rollout(env, match(env, deal, deal, deal, first=first), Overlong(*replies))
        assert (trace.outcome, trace.stop) == ("truncated", "length")
        assert trace.agent_rewards == {first: worth / 6, second: -worth / 6}
        assert trace.metrics["forfeits"] == forfeits[place]
        again = await score(env, Trace.model_validate_json(trace.to_json()).with_task(trace.task), {})
        assert again.agent_rewards == trace.agent_rewards


async def test_against_the_equilibrium_it_is_no_flawless_match() -> None:
    env = load()
    trace = await run_rollout(env, match(env, "KQ", "KQ"), Overlong(say("bet"), "hmm"))
    assert (trace.stop, trace.reward, trace.metrics["forfeits"]) == ("length", 0.0, 1.0)


async def test_a_match_that_is_cut_by_the_number_of_turns_is_nobodys_fault() -> None:
    env = load("self")
    limits = env.limits.model_copy(update={"max_turns": 1})
    services = Services({"policy": Scripted(_bold)}, limits=limits)
    trace = await run_rollout(env, match(env, "QK", "QK"), services)
    assert (trace.stop, trace.agent_rewards) == ("max_turns", {"policy": -0.5, "opponent": 0.5})


async def test_a_record_read_from_json_scores_the_same() -> None:
    env = load("self")
    trace = await run_rollout(env, next(iter(env.tasks)), Scripted(_bluff))
    again = await score(env, Trace.model_validate_json(trace.to_json()).with_task(trace.task), {})
    assert (again.agent_rewards, again.metrics) == (trace.agent_rewards, trace.metrics)


def test_a_seed_gives_the_same_matches_and_both_sides_begin_as_often() -> None:
    tasks = list(load().tasks)
    assert tasks == list(load().tasks)
    assert [task.deals for task in load(seed=1).tasks] != [task.deals for task in tasks]
    assert [task.first for task in tasks].count("policy") == 50
    assert {deal for task in tasks for deal in task.deals} == set(permutations("JQK", 2))
    with pytest.raises(UsageError, match="1 to 50 hands"):
        load(hands=51)


def _bold(messages: Sequence[Message]) -> str:
    """Bets and calls, always."""
    return say("call" if "<action>call</action>" in _asked(messages) else "bet")


def _bluff(messages: Sequence[Message]) -> str:
    """Bets with all cards, and folds J."""
    asked = _asked(messages)
    return say("bet" if "<action>bet</action>" in asked else "fold" if "You hold J" in asked else "call")


def _asked(messages: Sequence[Message]) -> str:
    return messages[-1].text[messages[-1].text.rindex("You act") :]
