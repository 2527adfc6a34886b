from meter import summary


def test_a_list():
    assert summary([1.0, 3.0]).mean == 2.0
    assert summary([1.0, 3.0]).deviation == 1.0
