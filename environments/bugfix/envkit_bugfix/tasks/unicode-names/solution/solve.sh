#!/bin/sh
set -e
cat >/app/people/keys.py <<'END'
"""By what names are compared."""

import unicodedata


def key(name):
    """The same for two names that are the same to a reader."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def initials(name):
    return "".join(part[0].upper() for part in name.split())
END
