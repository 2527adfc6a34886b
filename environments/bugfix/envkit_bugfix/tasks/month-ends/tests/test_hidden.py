from datetime import date

from billing import Plan, due_dates, next_due


def days(began, many, months=1):
    return [day.isoformat()[2:] for day in due_dates(Plan(date.fromisoformat(began), months), many)]


def test_the_last_day_comes_back():
    assert days("2023-01-31", 4) == ["23-02-28", "23-03-31", "23-04-30", "23-05-31"]


def test_leap_years():
    assert days("2024-01-31", 2) == ["24-02-29", "24-03-31"]
    assert days("2023-12-30", 3) == ["24-01-30", "24-02-29", "24-03-30"]


def test_leap_days_of_yearly_plans():
    assert days("2020-02-29", 5, 12) == ["21-02-28", "22-02-28", "23-02-28", "24-02-29", "25-02-28"]


def test_centuries():
    assert days("2000-01-31", 1) == ["00-02-29"]
    assert due_dates(Plan(date(2100, 1, 31)), 1) == [date(2100, 2, 28)]


def test_over_the_year():
    assert days("2023-10-31", 4) == ["23-11-30", "23-12-31", "24-01-31", "24-02-29"]


def test_quarters():
    assert days("2023-11-30", 3, 3) == ["24-02-29", "24-05-30", "24-08-30"]


def test_ordinary_days():
    assert days("2023-11-15", 3) == ["23-12-15", "24-01-15", "24-02-15"]


def test_next_due():
    plan = Plan(date(2023, 1, 31))
    assert next_due(plan, date(2023, 3, 1)) == date(2023, 3, 31)
    assert next_due(plan, date(2023, 2, 28)) == date(2023, 2, 28)


def test_years_later():
    assert due_dates(Plan(date(2023, 1, 31)), 25)[-1] == date(2025, 2, 28)
