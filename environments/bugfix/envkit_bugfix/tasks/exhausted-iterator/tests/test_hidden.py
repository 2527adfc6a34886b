from meter import Summary, readings, summary

LINES = ["# a meter", "10:00 1.0", "", "10:05 3.0", "  # later", "10:10 5.0", "   "]
WHOLE = Summary(3, 3.0, (8 / 3) ** 0.5, 5.0)


def same(a, b):
    return a.count == b.count and a.largest == b.largest and abs(a.mean - b.mean) + abs(a.deviation - b.deviation) < 1e-9


def test_a_list():
    assert same(summary([1.0, 3.0, 5.0]), WHOLE)


def test_a_generator():
    assert same(summary(value for value in (1.0, 3.0, 5.0)), WHOLE)


def test_readings():
    assert same(summary(readings(LINES)), WHOLE)


def test_readings_of_a_stream():
    assert same(summary(readings(iter(LINES))), WHOLE)


def test_comments_and_empty_lines_are_skipped():
    assert list(readings(LINES)) == [1.0, 3.0, 5.0]


def test_readings_stay_lazy():
    def endless():
        while True:
            yield "0 7.5"

    assert next(readings(endless())) == 7.5


def test_nothing_is_none():
    assert summary([]) is None
    assert summary(iter(())) is None
    assert summary(readings(["# only this"])) is None


def test_one_value():
    assert summary(iter([4.0])) == Summary(1, 4.0, 0.0, 4.0)


def test_negative_values():
    assert summary(iter([-3.0, -1.0])) == Summary(2, -2.0, 1.0, -1.0)
