from beside import after_adding, after_spoiling, after_use
from conf import defaults, load


def test_flags_stay_with_their_project():
    a, b = load({"name": "a"}), load({"name": "b"})
    a.add_flag("-O2")
    assert b.get("build.flags") == ["-Wall"]
    assert load({}).get("build.flags") == ["-Wall"]


def test_what_is_set_stays_with_its_project():
    a, b = load({}), load({})
    a.set("build.env.CC", "clang")
    a.set("tests.timeout", 5)
    assert b.get("build.env") == {}
    assert load({}).get("tests.timeout") == 60


def test_plugins_stay_with_their_project():
    a, b = load({}), load({})
    a.add_plugin("lint")
    assert (a.plugins, b.plugins, load({}).plugins) == (["lint"], [], [])


def test_given_plugins_are_not_changed():
    assert after_adding("docs", ["lint"]) == (["lint"], ["lint"])


def test_plugins_may_be_a_tuple():
    settings = load({}, ("lint",))
    settings.add_plugin("docs")
    assert settings.plugins == ["lint", "docs"]


def test_the_defaults_do_not_change():
    before = defaults()
    assert before["build"]["flags"] == ["-Wall"]
    assert after_spoiling("-g") == before


def test_a_projects_own_table_is_not_changed():
    own = {"build": {"flags": ["-g"]}, "extra": {"list": []}}
    assert after_use(own) == {"build": {"flags": ["-g"]}, "extra": {"list": []}}


def test_merging_goes_on():
    settings = load({"build": {"env": {"A": "1"}}, "new": {"x": 1}})
    assert settings.get("build.target") == "release"
    assert settings.get("build.env.A") == "1"
    assert settings.get("new.x") == 1
