"""Is this answer the gold? By the text where that settles it, else by what the two are worth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from envkit.verify.math.normalize import is_text, normalize, plain_text, squeezed
from envkit.verify.math.parse import parse
from envkit.verify.math.relations import assigned, is_equation, name, said, same_name, same_relation
from envkit.verify.math.scalars import same_expression, same_scalar
from envkit.verify.math.sets import NotASet, real_set, same_set, subject
from envkit.verify.math.signs import alternatives
from envkit.verify.math.tokens import TooLarge, Unreadable
from envkit.verify.math.values import (
    BaseN,
    Bracketed,
    Builder,
    Chain,
    Combined,
    Lettered,
    Listing,
    Matrix,
    Named,
    Num,
    Op,
    Ratio,
    Scalar,
    Sym,
    Value,
    Words,
)
from envkit.verify.math.words import number_word, same_words

Outcome = Literal["equal", "different", "gold", "parse", "guard", "undecided"]


@lru_cache(maxsize=16384)
def compare(gold: str, answer: str, rel_tol: float | None = None) -> Outcome:
    """How the extracted answer compares with the gold; "gold" where the gold itself cannot be read."""
    (first, bare), second = _read(gold), normalize(answer)
    if not second:
        return "parse" if readable(gold) else "gold"
    if bare == squeezed(second):
        return "equal"
    try:
        wanted = parse(first)
    except Unreadable:
        return "equal" if plain_text(first) == plain_text(second) else "gold"
    if is_text(first) and plain_text(first) == plain_text(second):
        return "equal"
    try:
        given = parse(second)
    except TooLarge:
        return "guard"
    except Unreadable:
        return "parse"
    try:
        same = same_value(wanted, given, rel_tol)
    except TooLarge:
        return "guard"
    return "undecided" if same is None else "equal" if same else "different"


@lru_cache(maxsize=4096)
def readable(gold: str) -> bool:
    """Whether the gold can be read: where it cannot, no reply is wrong, one without an answer as little as others."""
    try:
        parse(_read(gold)[0])
    except Unreadable:
        return False
    return True


@lru_cache(maxsize=4096)
def _read(gold: str) -> tuple[str, str]:
    """The gold normalised, and squeezed: it is held against many answers."""
    text = normalize(gold)
    return text, squeezed(text)


def same_value(gold: Value, answer: Value, rel_tol: float | None = None) -> bool | None:
    """Whether two values are one by the policy; None where that cannot be told."""
    if gold == answer:
        return True
    match gold, answer:
        case Words(), _:
            return same_words(gold.text, answer)
        case _, Words(text):
            word = number_word(text)
            return same_value(gold, word, rel_tol) if word is not None else False
        case (Lettered(), _) | (_, Lettered()):
            return _same_choice(gold, answer, rel_tol)
        case _:
            pass
    many, given = alternatives(gold), alternatives(answer)
    if len(many) > 1 or len(given) > 1:
        return _same_listing(_flat(many), _flat(given), rel_tol)
    return _same_structure(gold, answer, rel_tol)


def _same_structure(gold: Value, answer: Value, rel_tol: float | None) -> bool | None:
    match gold, answer:
        case Scalar(), Scalar():
            return same_scalar(gold, answer, rel_tol)
        case Matrix(), Matrix():
            return _same_matrix(gold, answer, rel_tol)
        case Ratio(), Ratio():
            return _same_ratio(gold, answer, rel_tol)
        case BaseN(), Scalar(Num(value, None)):
            return gold.digits == str(value)
        case Scalar(Num(value, None)), BaseN(digits, base):
            return base == 10 and digits == str(value)
        case Bracketed(), Bracketed():
            return (
                (gold.opening, gold.closing) == (answer.opening, answer.closing)
                and len(gold.items) == len(answer.items)
                and _all_same(gold.items, answer.items, rel_tol)
            )
        case _ if (verdict := _same_assignment(gold, answer, rel_tol)) is not None:
            return verdict
        case _ if _is_set(gold) and _is_set(answer) and (verdict := _same_set(gold, answer)) is not None:
            return verdict
        case Chain(parts, ("in",)), _ if not isinstance(answer, Chain):
            return same_value(parts[1], answer, rel_tol)
        case _, Chain(parts, ("in",)) if not isinstance(gold, Chain):
            return same_value(gold, parts[1], rel_tol)
        case _ if is_equation(gold) or is_equation(answer):
            return _same_equation(gold, answer, rel_tol)
        case Chain(), Chain():
            return same_relation(gold, answer)
        case Listing(), Listing():
            return _same_listing(gold.items, answer.items, rel_tol)
        case (Listing(items=(Named(),)), _) | (_, Listing(items=(Named(),))):
            return False
        case Listing(items=(item,)), _:
            return same_value(item, answer, rel_tol)
        case _, Listing(items=(item,)):
            return same_value(gold, item, rel_tol)
        case Combined(first, rest), Combined(other, others):
            return (
                [how for how, _ in rest] == [how for how, _ in others]
                and same_value(first, other) is True
                and _all_same([part for _, part in rest], [part for _, part in others], rel_tol)
            )
        case Builder(variable, condition), Builder(other, others):
            return variable == other and same_value(condition, others)
        case _:
            return False


def _same_choice(gold: Value, answer: Value, rel_tol: float | None) -> bool | None:
    """An option by its letter, or by its letter and what stands behind it."""
    match gold, answer:
        case Lettered(), Lettered():
            return gold.letter == answer.letter
        case Lettered(letter, content), Scalar(Sym(sym)) if sym.isupper():
            return letter == sym
        case Lettered(letter, content), _:
            return same_value(content, answer, rel_tol)
        case Scalar(Sym(sym)), Lettered(letter, content):
            return letter == sym
        case _, Lettered(letter, content):
            return same_value(gold, content, rel_tol)
        case _:
            return False


def _same_equation(gold: Value, answer: Value, rel_tol: float | None) -> bool | None:
    """Where one side is an equation: what it says its quantity is, or the equation itself."""
    wanted = said(gold) if isinstance(gold, Chain) else None
    given = said(answer) if isinstance(answer, Chain) else None
    if isinstance(gold, Chain) and isinstance(answer, Chain):
        if wanted is not None and given is not None and same_name(name(gold), name(answer)):
            return same_value(wanted, given, rel_tol)
        return same_relation(gold, answer)
    if isinstance(gold, Chain):
        return False if wanted is None else same_value(wanted, answer, rel_tol)
    return False if given is None else same_value(gold, given, rel_tol)


def _same_assignment(gold: Value, answer: Value, rel_tol: float | None) -> bool | None:
    """Where letters are given values, x = 2, y = 3 or (x, y) = (2, 3): by letter, or in the letters' order."""
    wanted, given = assigned(gold), assigned(answer)
    if wanted is not None and given is not None:
        return wanted.keys() == given.keys() and _all_same([*wanted.values()], [given[key] for key in wanted], rel_tol)
    if wanted is not None and (items := _in_order(answer)) is not None:
        return len(wanted) == len(items) and _all_same([wanted[key] for key in sorted(wanted)], items, rel_tol)
    if given is not None and (items := _in_order(gold)) is not None:
        return len(given) == len(items) and _all_same(items, [given[key] for key in sorted(given)], rel_tol)
    return None


def _in_order(value: Value) -> tuple[Value, ...] | None:
    match value:
        case Bracketed("(", items, ")") | Listing(items, False):
            return None if any(isinstance(item, Chain | Bracketed | Listing) for item in items) else items
        case _:
            return None


def _same_ratio(gold: Ratio, answer: Ratio, rel_tol: float | None) -> bool | None:
    """Part by part; ratios, but not times of day, also as multiples of each other."""
    if len(gold.parts) != len(answer.parts):
        return False
    same = _all_same(gold.parts, answer.parts, rel_tol)
    if same or gold.clock or answer.clock:
        return same
    wanted = [part.expr for part in gold.parts if isinstance(part, Scalar)]
    given = [part.expr for part in answer.parts if isinstance(part, Scalar)]
    if len(wanted) != len(given) or len(given) != len(gold.parts):
        return same
    first = [Op("*", (wanted[0], part)) for part in given]
    second = [Op("*", (given[0], part)) for part in wanted]
    return all(same_expression(a, b) for a, b in zip(first, second, strict=True))


def _same_matrix(gold: Matrix, answer: Matrix, rel_tol: float | None) -> bool | None:
    if gold.bars != answer.bars or [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
        return False
    return _all_same([e for row in gold.rows for e in row], [e for row in answer.rows for e in row], rel_tol)


def _same_listing(gold: Sequence[Value], answer: Sequence[Value], rel_tol: float | None) -> bool | None:
    """Whether two lists hold the same values, in whatever order, none left over."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    unclear = False
    for wanted in gold:
        for index, given in enumerate(left):
            same = same_value(wanted, given, rel_tol)
            unclear = unclear or same is None
            if same:
                del left[index]
                break
        else:
            return None if unclear else False
    return True


def _all_same(gold: Sequence[Value], answer: Sequence[Value], rel_tol: float | None) -> bool | None:
    verdicts = [same_value(g, a, rel_tol) for g, a in zip(gold, answer, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _is_set(value: Value) -> bool:
    """Whether a value may be read as a set of reals: an interval, an inequality, a set-builder, a union."""
    match value:
        case Bracketed(_, items, _):
            return len(items) == 2
        case Builder() | Combined() | Named():
            return True
        case Chain(_, ops):
            return set(ops) != {"="}
        case Listing(items, braces):
            return braces or any(isinstance(item, Chain) and not is_equation(item) for item in items)
        case _:
            return False


def _same_set(gold: Value, answer: Value) -> bool | None:
    try:
        first, second = real_set(gold), real_set(answer)
    except NotASet:
        return None
    names = subject(gold), subject(answer)
    return same_set(first, second) and (None in names or names[0] == names[1])


def _flat(values: Sequence[Value]) -> list[Value]:
    out: list[Value] = []
    for value in values:
        out.extend(value.items if isinstance(value, Listing) else [value])
    return out
