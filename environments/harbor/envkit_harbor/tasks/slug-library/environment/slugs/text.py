"""A slug of a title."""

import re


def slugify(title):
    """The title in small letters, with hyphens for what is no letter or digit."""
    words = re.split(r"[^a-z0-9]", title.lower())
    while not words[0]:
        words.pop(0)
    while not words[-1]:
        words.pop()
    return "-".join(words)
