"""Amounts, dates and tracking numbers in what somebody says, each in one form, so that they can be compared."""

from __future__ import annotations

import re

LONGEST = 1_500
"""Characters of a message that a customer still reads."""
MOST = 6
"""Figures in a message that a customer still reads: a list of all that it could be is no answer."""

MOST_A_REQUEST = 24
"""Different figures that an agent may tell for each request of a customer's; whoever tells more is guessing."""

_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS)
_WHOLE = r"\d{1,3}(?:,\d{3})+|\d{1,9}"
_END = r"(?![\d%]|[.,]\d)"
_AMOUNT = re.compile(
    rf"(?:\$|\bUSD)\s?(?P<signed>{_WHOLE})(?:\.(?P<signed_cents>\d\d?))?{_END}"
    rf"|(?<![\w.,])(?P<spoken>{_WHOLE})(?:\.(?P<spoken_cents>\d\d?))?\s?(?:dollars|USD)\b"
    rf"|(?<![\w.,])(?P<bare>{_WHOLE})\.(?P<bare_cents>\d\d){_END}",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<!\d)(?P<year>20\d\d)-(?P<month>\d\d)-(?P<day>\d\d)(?!\d)"
    rf"|\b(?P<name1>{_MONTH})\.?\s(?P<day1>\d{{1,2}})(?:st|nd|rd|th)?,?\s(?P<year1>20\d\d)\b"
    rf"|(?<!\d)(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\s(?P<name2>{_MONTH})\.?,?\s(?P<year2>20\d\d)\b",
    re.IGNORECASE,
)
_TRACKING = re.compile(r"(?<!\w)TRK\d{10}(?!\w)", re.IGNORECASE)


def dollars(cents: int) -> str:
    """`$1234.05`: the one form of an amount."""
    return f"${cents // 100}.{cents % 100:02d}"


def figures(text: str) -> set[str]:
    """Every amount of money (with a sign, a word for it, or cents), date and tracking number in the text.

    An amount has no direction: whether it is paid or refunded is not told apart.
    """
    found = {code.upper() for code in _TRACKING.findall(text)}
    for match in _DATE.finditer(text):
        year, day = match["year"] or match["year1"] or match["year2"], match["day"] or match["day1"] or match["day2"]
        name = match["name1"] or match["name2"]
        month = int(match["month"]) if name is None else 1 + [m[:3] for m in _MONTHS].index(name[:3].lower())
        found.add(f"{year}-{month:02d}-{int(day):02d}")
    for match in _AMOUNT.finditer(text):
        kind = next(kind for kind in ("signed", "spoken", "bare") if match[kind])
        whole, cents = match[kind].replace(",", ""), match[f"{kind}_cents"] or ""
        found.add(dollars(int(whole) * 100 + int(cents.ljust(2, "0"))))
    return found


def unreadable(text: str) -> str | None:
    """What a customer says of a message that is too long, or has too many figures, to be read; else None."""
    if len(text) > LONGEST:
        return "Sorry, that is too long for me to read here. Could you put it in a few sentences?"
    if len(figures(text)) > MOST:
        return "Sorry, that is too many figures at once for me. Could you tell me just the ones that matter?"
    return None
