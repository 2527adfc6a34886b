"""A connection, as far as the pool knows it."""


class Broken(Exception):
    """The connection cannot be used any more."""


class Connection:
    made = 0

    def __init__(self):
        Connection.made += 1
        self.broken = self.closed = False
        self.used = 0

    def reset(self):
        """Make it ready for the next user; Broken where that cannot be done."""
        if self.broken:
            raise Broken("it does not answer")
        self.used += 1

    def close(self):
        self.closed = True
