"""wordle: its gates, its cuts, marks under repeated letters, and what is a guess."""

import re
from typing import Any

import pytest
from environments.cuts import cut_everywhere
from hypothesis import given
from hypothesis import strategies as st

from envkit import Scripted, Task, run_rollout
from envkit.clients.scripted import Nop, Oracle
from envkit.errors import UsageError
from envkit.packages.check import check
from envkit.packages.find import find
from envkit.trace import Trace

ENV: Any = find("wordle").load()
GAME: Any = __import__(type(ENV).__module__ + ".game", fromlist=["marks"])
FEW = st.text("abc", min_size=5, max_size=5)
"""Words of so few letters that nearly all have some more than once."""


def of(word: str) -> Task:
    return Task(id="one", answer=word)


async def play(word: str, *replies: str) -> Trace:
    return await run_rollout(ENV, of(word), Scripted(replies))


def guess(word: str) -> str:
    return f"I think so. <guess>{word}</guess>"


async def test_every_gate_is_passed() -> None:
    gates = await check(find("wordle"), n=12)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_it_may_be_cut_at_every_turn() -> None:
    tasks = list(ENV.tasks)[:2]
    for client, turns, reward in ((Oracle(ENV), 1, 1.0), (Nop(), 6, 0.0), (Scripted(lambda _: guess("zzzzz")), 6, 0.0)):
        for traces in (await cut_everywhere(ENV, tasks, client)).values():
            assert [trace.reward for trace in traces] == [0.0] * turns + [reward]
            assert [len(trace.info["tried"]) for trace in traces] == list(range(turns + 1))


@pytest.mark.parametrize(
    ("said", "word", "marks"),
    [
        ("crane", "crane", "GGGGG"),
        ("eerie", "crepe", "YXYXG"),
        ("speed", "erase", "YXYYX"),
        ("allow", "llama", "YGYXX"),
        ("geese", "eagle", "YYXXG"),
        ("mummy", "month", "GXXXX"),
        ("array", "rarer", "YYGXX"),
    ],
)
def test_marks_of_games_worked_by_hand(said: str, word: str, marks: str) -> None:
    assert GAME.marks(said, word) == marks


@given(FEW, FEW)
def test_greens_are_what_agrees_and_no_letter_is_marked_more_often_than_the_word_has_it(said: str, word: str) -> None:
    marks = GAME.marks(said, word)
    assert [mark == "G" for mark in marks] == [a == b for a, b in zip(said, word, strict=True)]
    for letter in set(said):
        own = "".join(mark for mark, of in zip(marks, said, strict=True) if of == letter)
        assert len(own) - own.count("X") == min(said.count(letter), word.count(letter))
        assert own.replace("G", "") == "".join(sorted(own.replace("G", ""), key="YX".index))  # the first are given


@given(FEW, FEW)
def test_only_the_word_itself_is_all_green(said: str, word: str) -> None:
    assert (GAME.marks(said, word) == "GGGGG") == (said == word)


@given(st.text(max_size=60) | st.text("<>/guesabc ", max_size=60))
def test_whatever_is_said_is_a_guess_of_five_letters_or_none(text: str) -> None:
    assert GAME.read_guess(text + "<guess> CraNe\n</guess>") in ("crane", None)
    read = GAME.read_guess(text)
    assert read is None or (len(read) == 5 and read.isascii() and read.isalpha() and read.islower())


@pytest.mark.parametrize(
    "reply",
    [
        "crane",
        "<guess>crane",
        "</guess>crane<guess>",
        "<guess>crane</guess> or <guess>crane</guess>",
        "<guess>slate</guess>\nor\n<guess>crane</guess>",
        "<guess>crane, slate</guess>",
        "<guess>cranes</guess>",
        "<guess>crän</guess>",
        "<guess>сrane</guess>",  # noqa: RUF001 - a Cyrillic letter
        "<think>It is <guess>crane</guess>",
        "<guess>" * 100_000 + "crane",
    ],
)
async def test_what_is_no_single_guess_costs_one_and_is_told(reply: str) -> None:
    trace = await play("crane", reply, guess("crane"))
    assert trace.turns[1].prompt[-1].text.startswith("Guess 1 of 6 is lost: end with one guess of 5 letters")
    assert (trace.reward, trace.metrics["misspoken"], trace.metrics["guesses"]) == (1.0, 1.0, 2.0)


async def test_a_game_is_told_move_by_move_and_ends_with_the_word() -> None:
    trace = await play(
        "crepe", guess("eerie"), "<think>not <guess>crepe</guess></think><guess>CREEP</guess>", guess("crepe")
    )
    assert trace.turns[1].prompt[-1].text == "Guess 1 of 6:\nE E R I E\nY X Y X G\n5 left."
    assert trace.turns[2].prompt[-1].text == "Guess 2 of 6:\nC R E E P\nG G G Y Y\n4 left."
    assert trace.info == {"solved": True, "tried": [["eerie", "YXYXG"], ["creep", "GGGYY"], ["crepe", "GGGGG"]]}
    assert (trace.reward, trace.metrics) == (1.0, {"guesses": 3.0, "greens": 1.0, "misspoken": 0.0})


async def test_coming_near_is_not_paid_and_the_sixth_guess_is_the_last() -> None:
    trace = await play("crane", *[guess("crate")] * 7)
    assert (trace.outcome, len(trace.turns), trace.reward) == ("completed", 6, 0.0)
    assert trace.metrics == {"guesses": 7.0, "greens": 0.8, "misspoken": 0.0}
    assert (await play("crane", *[guess("crate")] * 5, guess("crane"))).reward == 1.0


async def test_nothing_but_the_marks_tells_of_the_word() -> None:
    rules: set[str] = set()
    for task in list(ENV.tasks)[:60]:
        trace = await run_rollout(ENV, task, Scripted(lambda _: guess("aeiou")))
        first, *later = [message.text for turn in trace.turns for message in turn.prompt]
        rules.add(first)
        assert len(later) == 5
        assert all(re.fullmatch(r"Guess \d of 6:\nA E I O U\n[GYX ]{9}\n\d left\.", text) for text in later), later
    assert len(rules) == 1
    assert GAME.read_guess(rules.pop()) is None  # who says the rules back has guessed nothing


def test_the_splits_share_no_word_and_a_seed_gives_the_same_tasks() -> None:
    words = {name: [task.answer for task in find("wordle").load(split=name).tasks] for name in ("train", "test")}
    assert {name: len(set(some)) for name, some in words.items()} == {"train": 732, "test": 243}
    assert not set(words["train"]) & set(words["test"])
    assert all(GAME.read_guess(f"<guess>{word}</guess>") == word for some in words.values() for word in some)
    assert list(ENV.tasks) == list(find("wordle").load().tasks)
    other = [task.answer for task in find("wordle").load(seed=1).tasks]
    assert other != words["test"]
    assert set(other) == set(words["test"])


def test_more_words_than_there_are_is_an_error_that_says_how_many() -> None:
    assert len(list(find("wordle").load(n=5).tasks)) == 5
    with pytest.raises(UsageError, match="has 243 words"):
        find("wordle").load(n=244)
