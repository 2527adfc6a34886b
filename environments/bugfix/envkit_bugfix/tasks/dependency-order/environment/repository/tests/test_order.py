from order import order, parse


def test_a_chain():
    assert order(parse("app: lib\nlib: core\ncore:"), ["app"]) == ["core", "lib", "app"]
