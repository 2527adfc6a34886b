from datetime import date

from billing import Plan, due_dates


def test_a_day_that_all_months_have():
    assert due_dates(Plan(date(2023, 11, 15)), 3) == [date(2023, 12, 15), date(2024, 1, 15), date(2024, 2, 15)]
