"""A site: a folder, and what may be read of it. No file is opened here: paths are computed, links are none of ours."""

import posixpath

from site_files.url import path_of

INDEX = "index.html"


class Forbidden(Exception):
    """The path is not in the site."""


class Site:
    def __init__(self, root):
        self.root = posixpath.normpath(root)

    def resolve(self, path):
        """The absolute path of a path relative to the site; Forbidden where it leaves it."""
        if path.startswith(".."):
            raise Forbidden(path)
        found = posixpath.normpath(posixpath.join(self.root, path or INDEX))
        if path.endswith("/"):
            found = posixpath.join(found, INDEX)
        return found

    def file(self, url):
        """The file that a URL names."""
        return self.resolve(path_of(url))

    def holds(self, absolute):
        """Whether an absolute path is in the site."""
        return posixpath.normpath(absolute).startswith(self.root)
