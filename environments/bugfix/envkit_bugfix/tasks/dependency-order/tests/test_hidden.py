from order import Cycle, Missing, order, parse

DIAMOND = "app: a b\na: core\nb: core\ncore:"


def cycle(text, wanted=None):
    try:
        order(parse(text), wanted)
    except Cycle as error:
        return error.path
    return None


def test_a_diamond_has_each_once():
    assert order(parse(DIAMOND)) == ["core", "a", "b", "app"]


def test_needs_come_in_the_order_that_is_said():
    assert order(parse("app: z a m\nz:\na:\nm:"), ["app"]) == ["z", "a", "m", "app"]


def test_two_wanted_share_what_they_need():
    assert order(parse(DIAMOND), ["b", "a"]) == ["core", "b", "a"]


def test_wanted_twice_is_built_once():
    assert order(parse(DIAMOND), ["a", "a", "core"]) == ["core", "a"]


def test_a_cycle_is_told():
    path = cycle("a: b\nb: c\nc: a")
    assert path == ["a", "b", "c", "a"]


def test_a_cycle_behind_a_tail():
    assert cycle("app: a\na: b\nb: a", ["app"]) == ["a", "b", "a"]


def test_one_that_needs_itself():
    assert cycle("a: a") == ["a", "a"]


def test_no_cycle_where_only_a_node_is_shared():
    assert cycle("a: b c d\nb: d\nc: d b\nd:") is None


def test_a_long_chain():
    graph = {str(i): [str(i + 1)] for i in range(5000)} | {"5000": []}
    assert order(graph, ["0"]) == [str(i) for i in range(5000, -1, -1)]


def test_missing_is_told():
    try:
        order(parse("a: b"))
    except Missing as error:
        assert str(error) == "b"
    else:
        raise AssertionError("it was not told")


def test_nothing():
    assert order({}) == []
