"""Matches, one a line: `Home 2:1 Away`."""

import re
from dataclasses import dataclass

_LINE = re.compile(r"(.+?) (\d+):(\d+) (.+)")


@dataclass(frozen=True)
class Match:
    home: str
    home_goals: int
    away_goals: int
    away: str


def parse(text):
    """The matches of a text; ValueError for a line that is none."""
    matches = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"no match: {line!r}")
        matches.append(Match(found[1], int(found[2]), int(found[3]), found[4]))
    return matches
