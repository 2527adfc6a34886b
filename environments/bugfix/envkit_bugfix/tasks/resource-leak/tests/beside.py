"""Jobs and connections of the tests', which run where the pool does."""

from pool import Connection


def fails(connection):
    raise KeyError("no such row")


def breaks(connection):
    connection.broken = True
    return "done"


def both(connection):
    connection.broken = True
    raise KeyError("both")


def one(connection):
    return 1


def two(connection):
    return 2


def while_lent(pool, job):
    with pool.borrow():
        return job()


class Mine(Connection):
    whose = "mine"


class Odd(Connection):
    def reset(self):
        raise ZeroDivisionError
