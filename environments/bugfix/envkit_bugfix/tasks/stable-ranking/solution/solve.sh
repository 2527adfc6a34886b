#!/bin/sh
set -e
cat >/app/league/table.py <<'END'
"""The table: three points for a win and one for a draw."""

from dataclasses import dataclass


@dataclass
class Row:
    team: str
    points: int = 0
    scored: int = 0
    conceded: int = 0
    rank: int = 0

    @property
    def difference(self):
        return self.scored - self.conceded

    def played(self, scored, conceded):
        self.scored += scored
        self.conceded += conceded
        self.points += 3 if scored > conceded else 1 if scored == conceded else 0


def table(matches):
    """The rows, the best team first."""
    rows = {}
    for match in matches:
        rows.setdefault(match.home, Row(match.home)).played(match.home_goals, match.away_goals)
        rows.setdefault(match.away, Row(match.away)).played(match.away_goals, match.home_goals)
    ordered = sorted(rows.values(), key=lambda row: (-row.points, -row.difference, -row.scored, row.team))
    before = None
    for place, row in enumerate(ordered, 1):
        what = (row.points, row.difference, row.scored)
        row.rank = ordered[place - 2].rank if what == before else place
        before = what
    return ordered
END
