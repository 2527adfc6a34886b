"""So many connections, lent one at a time."""

from contextlib import contextmanager

from pool.connection import Broken, Connection


class Empty(Exception):
    """All connections are lent."""


class Pool:
    def __init__(self, size, make=Connection):
        self.make = make
        self.free = [make() for _ in range(size)]
        self.lent = 0

    def take(self):
        if not self.free:
            raise Empty("none left")
        self.lent += 1
        return self.free.pop()

    def give(self, connection):
        connection.reset()
        self.lent -= 1
        self.free.append(connection)

    @contextmanager
    def borrow(self):
        """A connection for the length of a block."""
        connection = self.take()
        yield connection
        self.give(connection)
