from site_files import Forbidden, Site


def test_a_page():
    assert Site("/srv/site").resolve("docs/a.html") == "/srv/site/docs/a.html"
    assert Site("/srv/site").resolve("") == "/srv/site/index.html"


def test_up_is_refused():
    try:
        Site("/srv/site").resolve("../x")
    except Forbidden:
        return
    raise AssertionError
