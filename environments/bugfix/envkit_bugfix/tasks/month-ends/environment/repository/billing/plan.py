"""A plan: when it began, and every how many months it is due."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Plan:
    began: date
    months: int = 1
