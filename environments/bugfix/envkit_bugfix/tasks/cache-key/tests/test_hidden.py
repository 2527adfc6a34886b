from quotes import Quotes

RATES = {"EUR": 1.0, "USD": 1.5, "GBP": 0.5}


def test_currencies_are_told_apart():
    quotes = Quotes(RATES)
    assert [quotes.quote("tea", currency=c) for c in ("EUR", "USD", "GBP", "EUR")] == [4.0, 6.0, 2.0, 4.0]


def test_amounts_are_told_apart():
    quotes = Quotes(RATES)
    assert [quotes.quote("tea", amount=n) for n in (1, 2, 3)] == [4.0, 8.0, 12.0]


def test_the_same_arguments_share_an_entry_however_they_are_given():
    quotes = Quotes(RATES)
    for _ in range(2):
        quotes.quote("tea", 2, "USD")
        quotes.quote("tea", currency="USD", amount=2)
        quotes.quote(item="tea", amount=2, currency="USD")
    assert quotes.book.lookups == 1


def test_defaults_share_an_entry_with_what_is_said():
    quotes = Quotes(RATES)
    quotes.quote("tea")
    quotes.quote("tea", 1)
    quotes.quote("tea", 1, "EUR")
    assert quotes.book.lookups == 1


def test_items_are_told_apart():
    quotes = Quotes(RATES)
    assert (quotes.quote("tea"), quotes.quote("coffee"), quotes.book.lookups) == (4.0, 6.0, 2)


def test_objects_are_told_apart():
    assert Quotes(RATES).quote("tea") == 4.0
    assert Quotes({"EUR": 3.0}).quote("tea") == 12.0


def test_forget_forgets():
    quotes = Quotes(RATES)
    quotes.quote("tea")
    quotes.forget()
    quotes.quote("tea")
    assert quotes.book.lookups == 2


def test_any_number_of_arguments():
    quotes = Quotes(RATES)
    assert quotes.cheapest("coffee", "cocoa") == "cocoa"
    assert quotes.cheapest("coffee", "tea") == "tea"
    assert quotes.cheapest("coffee", "cocoa", currency="USD") == "cocoa"
