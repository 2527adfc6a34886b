"""What sympy may say: the right thing, or nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from material import rows

from envkit.errors import InfraError
from envkit.verify import workers
from envkit.verify.math import fallback
from envkit.verify.math.extract import extract
from envkit.verify.math.fallback import aequal, equal, plain

LONG = 120.0
"""Seconds, where a test is not about the deadline."""

EQUAL = [
    (r"\sqrt{5+2\sqrt{6}}", r"\sqrt2+\sqrt3"),
    (r"\sqrt[3]{2+\sqrt5}+\sqrt[3]{2-\sqrt5}", "1"),
    (r"\sqrt[3]{-8}", "-2"),
    (r"\cos(\pi/5)", r"\frac{1+\sqrt5}{4}"),
    (r"\ln(2)+\ln(3)", r"\ln 6"),
    (r"\log_2(8)", "3"),
    (r"e^{i\pi}", "-1"),
    (r"\sqrt{-1}", "i"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\sin^2 x+\cos^2 x", "1"),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"),
    (r"-2 \sqrt[4]{3}-9 \sqrt[4]{5}", "-9*5**(1/4) - 2*3**(1/4)"),
    ("2^{2000}+1", "1+4^{1000}"),
    ("3e8", "300000000"),
]

SLOW = (r"\frac{n!}{(n-1)!}", "n")
"""Sympy shows it, after many seconds."""

DIFFERENT = [
    ("1", "2"),
    (r"\pi R^2-\pi r^2", "0"),
    ("M/(m+M)", "1/2"),
    ("a", "A"),
    ("4t", "4"),
    (r"2\pi a b", r"2\pi"),
    ("1/2^{99}", "1/2^{98}"),
    ("2^{2000}+1", "2^{2000}"),
    (r"\frac{x+2}{7}", "x+2/7"),
    (r"\sqrt{1+\sqrt{2+\sqrt3}}", r"\sqrt{1+\sqrt{2+\sqrt3}}+10^{-40}"),
]

UNSHOWN = [
    (r"\sqrt{x^2}", "x"),  # which holds for some x
    (r"\lfloor n\rfloor", "n"),
    (r"(-1)^n", r"\cos(\pi n)"),
    ("1", r"\frac{0}{0}"),
    ("1", "0^0"),
    (r"\ln 0", "0"),
    (r"\tan(\pi/2)", "1"),
]

GUARDED = [
    ("(1,2)", "(1,2)"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("[0,1)", "[0,1]"),
    ("x=5", "5"),
    ("x<5", "5"),
    ("5 cm", "5"),
    (r"50\%", "50"),
    (r"50^\circ", "50"),
    (r"\text{yes}", "yes"),
    ("0.5", "1/2"),
    (r"\log 100", "2"),
    (r"\infty", r"\infty"),
    (r"\pm 2", "2"),
    ("f(x)", "f(x)"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("__import__('os')", "1"),
    ("", "1"),
]

BOMBS = [
    "10^{10^{10}}",
    "9^{9^{9^{9}}}",
    "e^{e^{e^{e^{e}}}}",
    "100000000!",
    "((5!)!)!",
    r"\binom{100000000}{50000000}",
    r"\sin(10^{10^{8}})",
    r"(1+\frac{1}{10^{100}})^{10^{100}}",
    "x^{x^{x^{x}}}",
    "(" * 300 + "1" + ")" * 300,
    r"\sqrt{" * 60 + "2" + "}" * 60,
    "1+" * 100_000 + "1",
    "((9^{99})^{99})^{99}",
]


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal(gold: str, answer: str) -> None:
    assert equal(gold, answer, timeout=LONG) == "equal"
    assert equal(answer, gold, timeout=LONG) == "equal"


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(gold: str, answer: str) -> None:
    assert equal(gold, answer, timeout=LONG) == "different"
    assert equal(answer, gold, timeout=LONG) == "different"


@pytest.mark.parametrize(("gold", "answer"), UNSHOWN)
def test_what_sympy_cannot_show_stays_undecided(gold: str, answer: str) -> None:
    assert equal(gold, answer, timeout=LONG) == "undecided"


def test_nothing_is_started_for_what_is_not_plain_or_not_small() -> None:
    pairs = GUARDED + [("5", bomb) for bomb in BOMBS] + [(bomb, "5") for bomb in BOMBS]
    code = (
        "import json, sys, threading; from envkit.verify.math.fallback import equal;"
        "said = {equal(*pair) for pair in json.load(sys.stdin)};"
        "print(said, threading.active_count(), 'sympy' in sys.modules)"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(pairs), env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=True, timeout=LONG,
    )  # fmt: skip
    assert done.stdout == "{'undecided'} 1 False\n"


def test_late_work_is_a_timeout_and_the_next_pair_is_served() -> None:
    assert equal(*SLOW, timeout=0.02) == "timeout"
    assert equal("1", r"\frac{1}{\sin^{2} x}-\cot^2 x", timeout=LONG) == "equal"


async def test_awaited_it_says_the_same() -> None:
    pairs = [(*pair, verdict) for verdict, pairs in (("equal", EQUAL), ("different", DIFFERENT)) for pair in pairs]
    said = await asyncio.gather(*(aequal(gold, answer, timeout=LONG) for gold, answer, _ in pairs))
    assert list(said) == [verdict for *_, verdict in pairs]
    assert await aequal("(1,2)", "(1,2)") == "undecided"
    assert await aequal(*SLOW, timeout=0.02) == "timeout"


def test_many_threads_get_the_same_verdicts() -> None:
    with ThreadPoolExecutor(16) as threads:
        said = list(threads.map(lambda pair: equal(*pair, timeout=LONG), (EQUAL + DIFFERENT) * 3))
    assert said == (["equal"] * len(EQUAL) + ["different"] * len(DIFFERENT)) * 3


def test_a_worker_is_believed_in_nothing_but_a_verdict() -> None:
    for said in (True, 1, "Equal", ["equal"], {"verdict": "equal"}, None, "timeout"):
        assert fallback._verdict(said) == "undecided"


class Exits(workers.Workers):
    """Whatever it is asked, the worker ends."""

    def run(self, function: str, *args: object, timeout: float = 2.0) -> object:
        return super().run("os:_exit", 1, timeout=timeout)


def test_a_worker_that_dies_decides_nothing_but_a_broken_pool_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    dying = Exits()
    monkeypatch.setattr(fallback, "_pool", dying)
    assert equal(*EQUAL[0]) == "undecided"
    dying.close()
    broken = workers.Workers(("no_such_module",))
    monkeypatch.setattr(fallback, "_pool", broken)
    with pytest.raises(InfraError, match="no_such_module"):
        equal(*EQUAL[0])
    broken.close()


CATEGORIES = ["auto_sympos", "auto_symneg", "radical", "function_expr", "letter_case", "complex"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_labelled_cases_never_get_a_wrong_verdict(category: str) -> None:
    cases = [case for case in rows("math/cases.jsonl") if case["category"] == category]
    for case in cases:
        found = extract(case["response"], "lenient")
        if not isinstance(found, str):
            wrong = "different" if case["expected"] else "equal"
            assert equal(case["gold"], found.text, timeout=LONG) != wrong, case["id"]


def test_what_is_plain_is_a_tree_of_words_and_lists() -> None:
    assert plain(r"\frac{2x}{3}+\pi") == [
        "+",
        ["/", ["*", ["number", "2"], ["letter", "x"]], ["number", "3"]],
        ["letter", "pi"],
    ]
