"""Settings of projects: defaults, under what a project says itself."""

from conf.settings import Settings, defaults, load

__all__ = ["Settings", "defaults", "load"]
