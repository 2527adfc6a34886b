"""The mathematical verifier: its policy in cases of our own, hostile text, and the labelled cases of the material."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import material, rows

from envkit.verify.math import agrade, grade


def boxed(answer: str) -> str:
    return f"So the answer is $\\boxed{{{answer}}}$."


SAME = [
    ("3/8", "0.375"),
    (r"\frac{5}{6}", r"\frac{10}{12}"),
    (r"2\frac{1}{4}", "2.25"),
    ("1,250", "1250"),
    (r"\sqrt{50}", r"5\sqrt2"),
    (r"(x+3)^2", "x^2+6x+9"),
    (r"\frac{1}{x-2}", r"-\frac{1}{2-x}"),
    (r"(-\infty, 4]", r"x \le 4"),
    (r"[0, 1) \cup (1, 2]", r"[0,2]\setminus\{1\}"),
    ("2, 7", r"7 \text{ and } 2"),
    (r"\{4, 9\}", "9, 4"),
    ("y = 3x - 1", "6x - 2y = 2"),
    ("12", r"12 \text{ km}"),
    (r"40\%", r"\frac{2}{5}"),
    (r"0.\overline{45}", r"\frac{5}{11}"),
    (r"\text{Tuesday}", "tuesday"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"),
    (r"\pm 3", "-3, 3"),
    ("121_3", "121_{3}"),
    (r"\pi", "3.14159265359"),
    ("5", "x = 5"),
    (r"\sin 30^\circ", "0.5"),
    ("6e7", r"6 \times 10^{7}"),
]
DIFFERENT = [
    ("3/8", "0.38"),
    (r"\pi", "3.1416"),
    ("(1, 3)", "(3, 1)"),
    ("(1, 3)", r"\{1, 3\}"),
    ("[1, 3)", "[1, 3]"),
    ("2, 7", "2"),
    ("7", "2, 7"),
    ("4", r"3 \text{ or } 4"),
    ("x^2 + y^2 = 9", "9"),
    ("3t", "3"),
    ("R^2 - r^2", "0"),
    (r"5 \text{ cm}", r"5 \text{ m}"),
    ("0.4", "40"),
    (r"10^{20}+1", "10^{20}"),
    (r"2^{-99}", r"2^{-98}"),
    (r"\text{north}", r"\text{thorn}"),
    ("121_3", "121_4"),
    ("B", "A, B"),
    ("8", "__import__('os').getpid()"),
    (r"\sqrt{x^2+4}", "x+2"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_equal_in_value(gold: str, answer: str) -> None:
    verdict = grade(gold, boxed(answer))
    assert verdict
    assert verdict.answer == answer


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_not_equal(gold: str, answer: str) -> None:
    assert grade(gold, boxed(answer)).correct is False


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "empty"),
        ("I do not know.", "no_box"),
        (r"<think> it is \boxed{5}", "unclosed_think"),
        (r"<think>\boxed{5}</think> hm", "no_box"),
        (r"\boxed{9^{9^{9^{9}}}}", "guard"),
    ],
)
def test_the_reason_says_why(response: str, reason: str) -> None:
    verdict = grade("5", response)
    assert (verdict.correct, verdict.reason) == (False, reason)


@pytest.mark.parametrize("gold", [r"\frac{1", "", "(" * 300, "9" * 10_000])
@pytest.mark.parametrize(
    "response",
    [
        "",
        "I give up.",
        r"\boxed{\ }",
        r"\boxed{}",
        r"<think>\boxed{5}",
        r"\boxed{\frac{}",
        boxed(r"\frac{1}{"),
        boxed("5"),
    ],
)
def test_a_gold_that_cannot_be_read_is_masked_whatever_the_reply(gold: str, response: str) -> None:
    verdict = grade(gold, response)
    assert (verdict.correct, verdict.reason) == (None, "gold")
    assert asyncio.run(agrade(gold, response)) == verdict


def test_the_span_is_where_the_answer_stands() -> None:
    response = r"First \boxed{4}. No: \boxed{5}!"
    span = grade("5", response).span
    assert span is not None
    assert response[slice(*span)] == "5"


def test_announced_answers_count_leniently_alone() -> None:
    assert grade("5", "The answer is 5.")
    assert grade("5", "The answer is 5.", extract="strict").reason == "no_box"


def test_a_rounded_gold_needs_the_tasks_own_tolerance() -> None:
    assert not grade("0.33", boxed("1/3"))
    assert grade("0.33", boxed("1/3"), rel_tol=0.02)


BOMBS = [
    "100000000!",
    "((9!)!)!",
    "10^{10^{10^{10}}}",
    "(" * 300 + "1" + ")" * 300,
    "9" * 100_000,
    r"\sin(10^{10^{8}})",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_wrong_and_harmless(bomb: str) -> None:
    assert grade("5", boxed(bomb)).correct is False
    assert grade(bomb, boxed("5")).correct is not True


SOUP = st.lists(
    st.sampled_from([*r"0 1 2 7 . , ; : ( ) [ ] { } ^ _ ! | + - * / = < > % $ x y i e \ and or".split(),
                     r"\frac", r"\sqrt", r"\pi", r"\cup", r"\le", r"\{", r"\}", r"\text{a}",
                     r"\pm", "é", "³", "½", "\x00"]),
    max_size=25,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(SOUP, st.text(max_size=30)), st.one_of(SOUP, st.text(max_size=30)))
def test_no_text_breaks_it_and_it_is_of_one_mind(gold: str, answer: str) -> None:
    verdict = grade(gold, boxed(answer))
    assert verdict == grade(gold, boxed(answer))
    assert verdict.correct in (True, False, None)


@settings(max_examples=300, deadline=None)
@given(st.fractions(max_denominator=999), st.fractions(max_denominator=999))
def test_fractions_are_equal_exactly_when_they_are(a: object, b: object) -> None:
    assert grade(str(a), boxed(str(b))).correct is (a == b)


def test_threads_and_asyncio_give_the_same_verdicts() -> None:
    cases = [(gold, boxed(answer)) for gold, answer in SAME + DIFFERENT]
    here = [grade(*case) for case in cases]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda case: grade(*case), cases)) == here

    async def together() -> list[object]:
        return list(await asyncio.gather(*(agrade(*case) for case in cases)))

    assert asyncio.run(together()) == here


def test_the_labelled_cases_meet_the_targets() -> None:
    right: defaultdict[str, int] = defaultdict(int)
    count: defaultdict[str, int] = defaultdict(int)
    false_positives: defaultdict[str, int] = defaultdict(int)
    for case in rows("math/cases.jsonl"):
        if recipe := case.get("response_gen"):
            case["response"] = recipe.get("pre", "") + recipe["unit"] * recipe["times"] + recipe.get("post", "")
        kind = (re.match(r"auto|real", case["category"]) or ["hand"])[0]
        verdict = grade(case["gold"], case["response"]).correct is True
        count[kind] += 1
        right[kind] += verdict == case["expected"]
        false_positives[kind] += verdict and not case["expected"]
    assert right["hand"] / count["hand"] >= 0.98
    assert right["auto"] / count["auto"] >= 0.997
    assert right["real"] / count["real"] >= 0.999
    assert sum(false_positives.values()) == 0


@pytest.mark.parametrize(("file", "column"), [("math500", "answer"), ("aime24", "answer"), ("gsm8k_test", "answer")])
def test_every_gold_equals_itself(file: str, column: str) -> None:
    lines = material(f"data/{file}.jsonl").read_text(encoding="utf-8").splitlines()
    golds = [str(json.loads(line)[column]).rpartition("#### ")[2] for line in lines]
    assert [gold for gold in golds if not grade(gold, boxed(gold))] == []
