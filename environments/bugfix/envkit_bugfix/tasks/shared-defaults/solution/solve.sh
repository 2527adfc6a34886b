#!/bin/sh
set -e
cat >/app/conf/settings.py <<'END'
"""The settings of one project."""

from copy import deepcopy

from conf.defaults import DEFAULTS
from conf.merge import merged


def defaults():
    return deepcopy(DEFAULTS)


def load(own, plugins=()):
    """The settings of a project that says `own`, a table, with these plugins."""
    return Settings(merged(defaults(), deepcopy(own)), list(plugins))


class Settings:
    def __init__(self, table, plugins):
        self.table, self.plugins = table, plugins

    def get(self, path):
        """The value at a path such as "build.flags"."""
        value = self.table
        for key in path.split("."):
            value = value[key]
        return value

    def set(self, path, value):
        *above, key = path.split(".")
        table = self.table
        for part in above:
            table = table.setdefault(part, {})
        table[key] = value

    def add_flag(self, flag):
        self.get("build.flags").append(flag)

    def add_plugin(self, name):
        self.plugins.append(name)
END
