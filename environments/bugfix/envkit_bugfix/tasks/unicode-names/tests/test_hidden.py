import unicodedata

from people import Directory

JOSE = "Jos\u00e9 Garc\u00eda"


def directory(*names):
    people = Directory()
    for name in names:
        people.add(name, f"{len(people)}@example.org")
    return people


def test_composed_and_decomposed_are_one():
    people = directory(JOSE)
    assert people.find(unicodedata.normalize("NFD", JOSE)).mail == "0@example.org"
    assert len(directory(JOSE, unicodedata.normalize("NFD", JOSE))) == 1


def test_sharp_s():
    assert directory("Anna Stra\u00dfe").find("ANNA STRASSE") is not None


def test_other_spaces():
    people = directory("Ada Lovelace")
    for name in ("Ada\u00a0Lovelace", "Ada  Lovelace", " Ada\tLovelace ", "Ada\u2003Lovelace"):
        assert people.find(name) is not None, name


def test_accents_tell_people_apart():
    assert len(directory("Ana", "A\u00f1a", "An\u00e1")) == 3
    assert directory("Ana").find("A\u00f1a") is None


def test_the_first_spelling_is_shown():
    people = directory("Ada  Lovelace", "ADA LOVELACE")
    assert people.names() == ["Ada  Lovelace"]
    assert people.find("ada lovelace").mail == "1@example.org"


def test_a_mail_stays_where_none_is_given():
    people = directory(JOSE)
    people.add(JOSE.upper())
    assert people.find(JOSE).mail == "0@example.org"


def test_full_width_letters():
    assert directory("Ken").find("\uff2b\uff45\uff4e") is not None


def test_turkish_capital_i_is_found_again():
    people = directory("\u0130pek")
    assert people.find("\u0130pek") is not None
    assert people.find(unicodedata.normalize("NFD", "\u0130pek")) is not None


def test_names_are_sorted():
    assert directory("bob", "Ada", "Cy").names() == ["Ada", "bob", "Cy"]
