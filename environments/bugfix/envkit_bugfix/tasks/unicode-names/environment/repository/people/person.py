"""A person."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    name: str
    mail: str = ""
