from league import parse, table


def test_the_best_comes_first():
    rows = table(parse("Reds 2:0 Blues\nBlues 1:0 Greens\nReds 1:1 Greens"))
    assert [row.team for row in rows] == ["Reds", "Blues", "Greens"]
    assert [row.points for row in rows] == [4, 3, 1]
