from conf import load


def test_what_a_project_says_wins():
    settings = load({"name": "a", "build": {"target": "debug"}})
    assert settings.get("name") == "a"
    assert settings.get("build.target") == "debug"
    assert settings.get("tests.timeout") == 60
