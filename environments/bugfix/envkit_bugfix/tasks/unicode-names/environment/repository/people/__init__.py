"""A directory of people."""

from people.directory import Directory
from people.person import Person

__all__ = ["Directory", "Person"]
