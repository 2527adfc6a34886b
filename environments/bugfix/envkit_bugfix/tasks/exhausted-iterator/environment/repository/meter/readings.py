"""Readings, one a line: `time value`."""


def readings(lines):
    """The values, one after the other; what begins with # is a comment."""
    for line in lines:
        if line.startswith("#"):
            continue
        yield float(line.split()[1])
