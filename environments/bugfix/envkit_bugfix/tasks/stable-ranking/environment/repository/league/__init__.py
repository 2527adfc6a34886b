"""A league: matches, and the table they make."""

from league.matches import Match, parse
from league.table import Row, table

__all__ = ["Match", "Row", "parse", "table"]
