from store import Cache, Clock


def filled(size=2, **more):
    cache = Cache(size, **more)
    for key in "abc"[:size]:
        cache.put(key, key.upper())
    return cache


def test_what_was_read_stays():
    cache = filled()
    cache.get("a")
    cache.put("c", "C")
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)


def test_what_was_put_again_stays():
    cache = filled()
    cache.put("a", "new")
    cache.put("c", "C")
    assert (cache.get("a"), "b" in cache) == ("new", False)


def test_putting_again_pushes_nothing_out():
    cache = filled()
    for _ in range(5):
        cache.put("b", "again")
    assert len(cache) == 2
    assert "a" in cache


def test_looking_is_no_use():
    cache = filled()
    assert "a" in cache
    cache.put("c", "C")
    assert "a" not in cache


def test_expired_entries_are_not_returned():
    clock = Clock(0.0)
    cache = filled(ttl=10.0, clock=clock)
    clock.pass_(10.0)
    assert cache.get("a") is None
    assert "b" not in cache
    assert len(cache) == 0


def test_expired_entries_go_first():
    clock = Clock(0.0)
    cache = Cache(2, ttl=10.0, clock=clock)
    cache.put("good", 1)
    clock.pass_(1.0)
    cache.put("later", 2)
    clock.pass_(8.0)
    cache.put("good", 3)
    clock.pass_(2.5)
    cache.put("new", 4)
    assert ("good" in cache, "later" in cache, "new" in cache) == (True, False, True)


def test_reading_does_not_make_it_live_longer():
    clock = Clock(0.0)
    cache = filled(ttl=10.0, clock=clock)
    clock.pass_(9.0)
    assert cache.get("a") == "A"
    clock.pass_(1.5)
    assert cache.get("a") is None


def test_hits_and_misses():
    clock = Clock(0.0)
    cache = filled(ttl=10.0, clock=clock)
    cache.get("a")
    cache.get("x")
    clock.pass_(20.0)
    cache.get("a")
    assert (cache.hits, cache.misses) == (1, 2)


def test_none_is_a_value():
    cache = Cache(1)
    cache.put("a", None)
    assert cache.get("a", "default") is None
    assert cache.hits == 1


def test_size_one():
    cache = Cache(1)
    cache.put("a", 1)
    cache.put("b", 2)
    assert ("a" in cache, cache.get("b")) == (False, 2)
