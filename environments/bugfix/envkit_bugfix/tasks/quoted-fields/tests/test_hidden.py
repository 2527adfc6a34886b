import random

from rows import read, written


def refused(text):
    try:
        read(text)
    except ValueError:
        return True
    return False


def test_commas_in_quotes():
    assert read('"a,b",c\n') == [["a,b", "c"]]
    assert read('x,"1,2,3"\n') == [["x", "1,2,3"]]


def test_doubled_quotes():
    assert read('"say ""hi""",x\n') == [['say "hi"', "x"]]
    assert read('""""\n') == [['"']]


def test_empty_fields():
    assert read("a,\n") == [["a", ""]]
    assert read(",\n") == [["", ""]]
    assert read("a,,b\n,x\n") == [["a", "", "b"], ["", "x"]]
    assert read('a,""\n') == [["a", ""]]


def test_line_breaks_in_quotes():
    assert read('"a\nb",c\nd\n') == [["a\nb", "c"], ["d"]]


def test_without_a_last_line_break():
    assert read("a,b") == [["a", "b"]]
    assert read("a,") == [["a", ""]]
    assert read('"a"') == [["a"]]


def test_empty_lines_are_no_rows():
    assert read("") == []
    assert read("a\n\nb\n") == [["a"], ["b"]]


def test_text_after_a_quotation_is_refused():
    assert refused('"a"b,c\n')
    assert refused('"a" ,c\n')


def test_a_quotation_that_does_not_end_is_refused():
    assert refused('"a,b\n')
    assert refused('a,"b""\n')


def test_a_mark_within_a_plain_field_is_a_mark():
    assert read('a"b,c\n') == [['a"b', "c"]]


def test_what_is_written_is_read():
    draw = random.Random(3)
    for _ in range(300):
        rows = [["".join(draw.choices('ab,"\n', k=draw.randint(0, 4))) for _ in range(draw.randint(2, 4))] for _ in range(3)]
        assert read(written(rows)) == rows
