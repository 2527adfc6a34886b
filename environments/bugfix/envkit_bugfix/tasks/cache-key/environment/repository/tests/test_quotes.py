from quotes import Quotes

RATES = {"EUR": 1.0, "USD": 1.5}


def test_a_quote():
    assert Quotes(RATES).quote("tea", 2) == 8.0


def test_it_is_looked_up_once():
    quotes = Quotes(RATES)
    assert quotes.quote("tea") == quotes.quote("tea")
    assert quotes.book.lookups == 1
