"""What can be wrong with a graph."""


class Missing(Exception):
    """A package that is needed is not there."""


class Cycle(Exception):
    """Packages that need one another; `path` begins and ends with the same."""

    def __init__(self, path):
        super().__init__(" -> ".join(path))
        self.path = list(path)
