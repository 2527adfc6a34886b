from rows import read, written


def test_plain_fields():
    assert read("a,b\nc,d\n") == [["a", "b"], ["c", "d"]]
    assert written([["a", "b"]]) == "a,b\n"
