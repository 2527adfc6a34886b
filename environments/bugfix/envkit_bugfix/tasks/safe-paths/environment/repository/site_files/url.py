"""The path in a URL."""

from urllib.parse import urlsplit


def path_of(url):
    """The path, without query and fragment and its first slash."""
    return urlsplit(url).path.removeprefix("/")
