"""Programs that the judges run inside boxes; they import nothing of envkit there, and take old interpreters as well.

A program is put together from several files. The lines by which one imports from another, or for annotations alone,
serve the type checker: `typing` takes an interpreter as long to import as a small test to run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_LEFT_OUT = ("from __future__ ", "from envkit.", "from typing ")


@cache
def program(*names: str) -> str:
    """The text of these files, one after the other, as one program."""
    folder = Path(__file__).parent
    lines = [line for name in names for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    head = ["from __future__ import annotations"] if names[0].endswith(".py") else []
    return "\n".join([*head, *(line for line in lines if not line.startswith(_LEFT_OUT))]) + "\n"
