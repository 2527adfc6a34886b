#!/bin/sh
set -e
cat >/app/rows/reader.py <<'END'
"""Text as rows."""

from rows.marks import COMMA, NEWLINE, QUOTE


def read(text):
    """The rows of a text; each has at least one field."""
    rows, row, at = [], [], 0
    while at < len(text):
        if text[at] == QUOTE:
            field, at = _quoted(text, at + 1)
        else:
            end = at
            while end < len(text) and text[end] not in (COMMA, NEWLINE):
                end += 1
            field, at = text[at:end], end
        row.append(field)
        if at < len(text) and text[at] == COMMA:
            at += 1
            if at == len(text):
                row.append("")
            elif text[at] == NEWLINE:
                row.append("")
        if at >= len(text) or text[at] == NEWLINE:
            rows.append(row)
            row, at = [], at + 1
    return [row for row in rows if row != [""]]


def _quoted(text, at):
    """(the field that was opened before, where it ends)."""
    parts = []
    while True:
        end = text.find(QUOTE, at)
        if end < 0:
            raise ValueError("a quoted field does not end")
        parts.append(text[at:end])
        at = end + 1
        if text[at : at + 1] != QUOTE:
            break
        parts.append(QUOTE)
        at += 1
    if text[at : at + 1] not in ("", COMMA, NEWLINE):
        raise ValueError(f"text after a quoted field: {text[at : at + 10]!r}")
    return "".join(parts), at
END
