from ledger import Invoice, shown


def test_whole_cents_add_up():
    assert Invoice("A").add("pen", "1.20", 2).add("ink", "3.05").total() == 545


def test_shown():
    assert shown(1234) == "12.34"
    assert shown(-5) == "-0.05"
