from site_files import Forbidden, Site

SITE = Site("/srv/site")


def refused(path, how=SITE.resolve):
    try:
        how(path)
    except Forbidden:
        return True
    return False


def test_paths_that_leave_are_refused():
    for path in ("../x", "docs/../../secret", "a/b/../../../x", "..", "./..", "docs/../.."):
        assert refused(path), path


def test_absolute_paths_are_refused():
    assert refused("/etc/passwd")
    assert refused("//etc/passwd")
    assert refused("/srv/site/a.html")


def test_neighbours_are_not_the_site():
    assert refused("../site-old/a.html")
    assert not SITE.holds("/srv/site-old/a.html")
    assert not SITE.holds("/srv/sit")
    assert SITE.holds("/srv/site")
    assert SITE.holds("/srv/site/a")
    assert not SITE.holds("/srv/site/../x")


def test_inside_it_may_go_up_and_down():
    assert SITE.resolve("a/../b.html") == "/srv/site/b.html"
    assert SITE.resolve("./a//b.html") == "/srv/site/a/b.html"


def test_dots_in_names_are_names():
    assert SITE.resolve("notes..txt") == "/srv/site/notes..txt"
    assert SITE.resolve("..notes/a") == "/srv/site/..notes/a"
    assert SITE.resolve("...") == "/srv/site/..."


def test_folders_have_an_index():
    assert SITE.resolve("docs/") == "/srv/site/docs/index.html"
    assert SITE.file("/") == "/srv/site/index.html"


def test_urls_are_decoded_before_they_are_judged():
    assert SITE.file("/a%20b.html?x=1#y") == "/srv/site/a b.html"
    assert refused("/%2e%2e/secret", SITE.file)
    assert refused("/docs/%2e%2e/%2e%2e/secret", SITE.file)
    assert refused("/%2fetc/passwd", SITE.file)


def test_decoded_once():
    assert SITE.file("/%252e%252e/x") == "/srv/site/%2e%2e/x"


def test_a_root_with_a_slash_at_its_end():
    assert Site("/srv/site/").resolve("a") == "/srv/site/a"
    assert Site("/").holds("/etc")


def test_no_null_byte():
    assert refused("a\0b")
