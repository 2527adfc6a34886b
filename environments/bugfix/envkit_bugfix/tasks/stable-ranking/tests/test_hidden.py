from league import parse, table


def teams(text):
    return [row.team for row in table(parse(text))]


def ranks(text):
    return [(row.rank, row.team) for row in table(parse(text))]


def test_equal_teams_come_by_name():
    assert teams("B 1:1 A") == ["A", "B"]
    assert teams("C 0:0 A\nD 0:0 B") == ["A", "B", "C", "D"]


def test_equal_teams_share_a_rank_and_the_next_is_left_out():
    text = "A 3:0 D\nB 1:1 C"
    assert ranks(text) == [(1, "A"), (2, "B"), (2, "C"), (4, "D")]


def test_all_equal():
    assert ranks("A 2:2 B\nC 2:2 D") == [(1, "A"), (1, "B"), (1, "C"), (1, "D")]


def test_points_first():
    assert teams("A 1:0 B\nC 9:9 D")[0] == "A"


def test_difference_before_goals():
    assert teams("A 2:0 B\nC 5:4 D")[:2] == ["A", "C"]


def test_goals_where_the_difference_is_equal():
    assert teams("A 1:0 B\nC 3:2 D") == ["C", "A", "D", "B"]


def test_names_do_not_decide_ranks_of_unequal_teams():
    assert ranks("A 1:0 B\nC 3:2 D") == [(1, "C"), (2, "A"), (3, "D"), (4, "B")]


def test_an_empty_league():
    assert table([]) == []


def test_two_groups_of_equals():
    assert [rank for rank, _ in ranks("A 1:0 E\nB 1:0 F\nC 1:0 G")] == [1, 1, 1, 4, 4, 4]
