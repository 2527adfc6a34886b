"""Runs the hidden tests in a box of their own, which no code of the package ever entered.

What they import of the package is a name: what they do with it is asked of the package's box, through the host.
"""

from __future__ import annotations

import builtins
import itertools
import os
import sys
import types
from typing import Any

from envkit.verify.code.programs.channel import Channel, version
from envkit.verify.code.programs.codec import unpack

from .crossing import WRITTEN, crossed


class Package:
    """The other box, and what is known of it here."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.ids = itertools.count()
        self.known: dict[int, Any] = {}

    def do(self, what: str, *args: Any, **kwargs: Any) -> Any:
        """What comes of it there, or the error that is raised there."""
        asked = [crossed(each, mention) for each in args]
        named = {name: crossed(each, mention) for name, each in kwargs.items()}
        self.channel.say({"call": {"id": next(self.ids), "do": what, "args": asked, "kwargs": named}})
        reply = self.channel.hear()
        if "came" in reply:
            return self.read(reply["came"])
        error = self.read(reply["raised"])(reply["words"])
        error.there = Remote(self, reply["error"])
        raise error

    def read(self, said: Any) -> Any:
        """What crossed. ValueError for anything that is not as `crossing` says."""
        tag, inner = next(iter(said.items()))
        if tag == "value":
            return unpack(inner)
        if tag == "written":
            return WRITTEN[inner[0]][2](inner[1])
        if tag in ("list", "tuple"):
            return {"list": list, "tuple": tuple}[tag](self.read(item) for item in inner)
        if tag == "builtin":
            kind = getattr(builtins, inner)
            return kind if issubclass(kind, Exception) else Exception
        if tag != "object" or type(inner) is not int:
            raise ValueError("no value")
        if inner not in self.known:
            self.known[inner] = self.error_kind(said) if "bases" in said else Remote(self, inner)
        return self.known[inner]

    def error_kind(self, said: Any) -> Any:
        """A class of exceptions for one of the package's; what else its errors have, they are asked for there."""
        bases = tuple(self.read(base) for base in said["bases"]) or (Exception,)

        def attribute(error: Any, name: str) -> Any:
            if name == "there":
                raise AttributeError(name)
            return getattr(error.there, name)

        return type(str(said["name"]), bases, {"number": said["object"], "__getattr__": attribute})


class Remote:
    """An object of the package's. It may be told from others by `is`; what it says is compared, not what it is."""

    def __init__(self, package: Package, number: int) -> None:
        self.__dict__.update(package=package, number=number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.package.do("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError("tests set nothing of an object of the package's; what beside.py does there can")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.package.do("call", self, *args, **kwargs)

    def __len__(self) -> Any:
        return self.package.do("len", self)

    def __contains__(self, value: Any) -> Any:
        return self.package.do("in", self, value)

    def __getitem__(self, key: Any) -> Any:
        return self.package.do("item", self, key)

    def __iter__(self) -> Any:
        return self.package.do("iter", self)

    def __next__(self) -> Any:
        return self.package.do("next", self)

    def __bool__(self) -> Any:
        return self.package.do("bool", self)

    def __eq__(self, other: object) -> bool:
        raise TypeError("an object of the package's is no plain value")

    __hash__ = None


def mention(value: Any) -> Any:
    if isinstance(value, Remote) or (isinstance(value, type) and hasattr(value, "number")):
        return {"object": value.number}
    raise TypeError("a " + type(value).__name__ + " of the tests' cannot cross; beside.py may have it there")


class Module(types.ModuleType):
    """A module of the package's box."""

    def __init__(self, package: Package, name: str) -> None:
        super().__init__(name)
        self.there = package.do("import", name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.there, name)


def where(error: BaseException, tests: str) -> str:
    """The error and the line of the tests where it came up."""
    import traceback

    words = "".join(traceback.format_exception_only(type(error), error)).strip()[-300:]
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "tests.py" and f.lineno]
    return f"{words} at: {tests.splitlines()[lines[-1] - 1].strip()[:200]}" if lines else words


def main() -> None:
    """Tells of each test, in their order, and then of the end."""
    channel = Channel()
    channel.say({"ready": version()})
    modules, tests, names = channel.hear()
    package, scope = Package(channel), {"__name__": "tests"}
    try:
        sys.modules.update({name: Module(package, name) for name in modules})
        exec(compile(tests, "tests.py", "exec"), scope)
    except BaseException as error:  # noqa: BLE001 - whatever it is, no test can be run
        channel.say({"unusable": where(error, tests)})
        os._exit(0)
    for name in names:
        try:
            scope[name]()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test failed
            channel.say({"test": name, "passed": False, "why": where(error, tests)})
        else:
            channel.say({"test": name, "passed": True, "why": "passed"})
    channel.say({"end": True})
    os._exit(0)


main()
