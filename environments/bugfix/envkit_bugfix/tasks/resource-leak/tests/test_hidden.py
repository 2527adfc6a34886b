from beside import Mine, Odd, both, breaks, fails, one, two, while_lent
from pool import Broken, Empty, Pool, run


def raised(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    return None


def test_a_job_that_fails_gives_its_connection_back():
    pool = Pool(1)
    assert isinstance(raised(run, pool, [fails]), KeyError)
    assert (len(pool.free), pool.lent) == (1, 0)
    assert run(pool, [one]) == [1]


def test_many_failures_leave_the_pool_whole():
    pool = Pool(3)
    for _ in range(20):
        raised(run, pool, [one, fails])
    assert (len(pool.free), pool.lent) == (3, 0)


def test_a_broken_connection_is_replaced():
    pool = Pool(1)
    first = pool.free[0]
    assert run(pool, [breaks]) == ["done"]
    assert (len(pool.free), pool.lent) == (1, 0)
    assert pool.free[0] is not first
    assert first.closed
    assert not pool.free[0].broken


def test_a_job_that_fails_and_breaks_its_connection():
    pool = Pool(2)
    assert isinstance(raised(run, pool, [both]), KeyError)
    assert (len(pool.free), pool.lent) == (2, 0)
    assert not any(connection.broken for connection in pool.free)


def test_replacements_are_made_as_the_pool_makes_them():
    pool = Pool(1, Mine)
    run(pool, [breaks])
    assert pool.free[0].whose == "mine"


def test_a_good_connection_is_used_again():
    pool = Pool(1)
    first = pool.free[0]
    assert run(pool, [one, two]) == [1, 2]
    assert pool.free[0] is first
    assert first.used == 2
    assert not first.closed


def test_an_empty_pool_says_so():
    pool = Pool(1)
    assert isinstance(raised(while_lent, pool, pool.take), Empty)
    assert pool.lent == 0


def test_other_errors_of_a_reset_are_not_hidden():
    pool = Pool(1, Odd)
    assert isinstance(raised(run, pool, [one]), ZeroDivisionError)
    assert issubclass(Broken, Exception)
