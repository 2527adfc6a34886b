"""Rows as text."""

from rows.marks import COMMA, NEWLINE, QUOTE


def written(rows):
    return "".join(COMMA.join(map(_field, row)) + NEWLINE for row in rows)


def _field(text):
    """The field as it is, or quoted where it has to be."""
    if any(mark in text for mark in (COMMA, QUOTE, NEWLINE)):
        return QUOTE + text.replace(QUOTE, QUOTE + QUOTE) + QUOTE
    return text
