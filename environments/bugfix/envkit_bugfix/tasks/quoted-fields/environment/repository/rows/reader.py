"""Text as rows."""

from rows.marks import COMMA, NEWLINE, QUOTE


def read(text):
    """The rows of a text; each has at least one field."""
    return [_fields(line) for line in text.split(NEWLINE) if line]


def _fields(line):
    fields, at = [], 0
    while at < len(line):
        if line[at] == QUOTE:
            end = line.index(QUOTE, at + 1)
            fields.append(line[at + 1 : end])
            at = end + 2
        else:
            end = line.find(COMMA, at)
            end = len(line) if end < 0 else end
            fields.append(line[at:end])
            at = end + 1
    return fields
