from beside import endless, one_by_one
from meter import Summary, readings, summary

LINES = ["# a meter", "10:00 1.0", "", "10:05 3.0", "  # later", "10:10 5.0", "   "]
WHOLE = (3, 3.0, 1.632993161855, 5.0)


def figures(of):
    """What a summary says, to twelve digits."""
    return of.count, round(of.mean, 12), round(of.deviation, 12), of.largest


def test_a_list():
    assert figures(summary([1.0, 3.0, 5.0])) == WHOLE


def test_a_generator():
    assert figures(summary(one_by_one([1.0, 3.0, 5.0]))) == WHOLE


def test_readings():
    assert figures(summary(readings(LINES))) == WHOLE


def test_readings_of_a_stream():
    assert figures(summary(readings(one_by_one(LINES)))) == WHOLE


def test_comments_and_empty_lines_are_skipped():
    assert list(readings(LINES)) == [1.0, 3.0, 5.0]


def test_readings_stay_lazy():
    assert next(readings(endless())) == 7.5


def test_nothing_is_none():
    assert summary([]) is None
    assert summary(one_by_one([])) is None
    assert summary(readings(["# only this"])) is None


def test_one_value():
    assert figures(summary(one_by_one([4.0]))) == (1, 4.0, 0.0, 4.0)


def test_negative_values():
    assert figures(summary(one_by_one([-3.0, -1.0]))) == (2, -2.0, 1.0, -1.0)


def test_a_summary_is_made_of_its_four_figures():
    assert figures(Summary(3, 2.0, 1.0, 4.0)) == (3, 2.0, 1.0, 4.0)
