"""A slug of a title."""

import re
import unicodedata


def slugify(title):
    """The title in plain small letters, with one hyphen for each run of what is no letter or digit."""
    plain = unicodedata.normalize("NFKD", title.lower())
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-") or "untitled"
