from pool import Pool, run


def test_connections_come_back():
    pool = Pool(1)
    assert run(pool, [lambda c: 1, lambda c: 2]) == [1, 2]
    assert (len(pool.free), pool.lent) == (1, 0)
