from people import Directory


def test_capitals_do_not_matter():
    people = Directory()
    people.add("Ada Lovelace", "ada@example.org")
    assert people.find("ada lovelace").mail == "ada@example.org"
    assert people.find("Bob") is None
