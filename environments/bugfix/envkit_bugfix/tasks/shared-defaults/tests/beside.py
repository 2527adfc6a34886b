"""What the tests do to values that a project and its settings may share, where the settings are."""

from conf import defaults, load


def after_adding(plugin, given):
    """(the plugins that were given, those of the next project that is given them)"""
    load({}, given).add_plugin(plugin)
    return list(given), list(load({}, given).plugins)


def after_spoiling(flag):
    """The defaults after a project, and whoever asked for them, changed theirs."""
    load({}).add_flag(flag)
    defaults()["build"]["flags"].append(flag)
    return defaults()


def after_use(own):
    """A project's own table after its settings were changed."""
    settings = load(own)
    settings.add_flag("-O2")
    settings.get("extra.list").append(1)
    return own
