"""Runs in the package's box and does with the package what the tests ask. Whatever is said here may be forged."""

from __future__ import annotations

import builtins
import importlib
import operator
import os
import sys
from typing import Any

from envkit.verify.code.programs.channel import Channel, version
from envkit.verify.code.programs.codec import unpack

from .crossing import WRITTEN, crossed

DO: Any = {
    "import": importlib.import_module,
    "get": getattr,
    "call": lambda function, *args, **kwargs: function(*args, **kwargs),
    "len": len,
    "in": operator.contains,
    "item": operator.getitem,
    "iter": iter,
    "next": next,
    "bool": bool,
}


class Objects:
    """What the tests know by a number, kept for as long as they may ask for it."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.numbers: dict[int, int] = {}

    def mention(self, value: Any) -> Any:
        if isinstance(value, type) and issubclass(value, BaseException):
            if getattr(builtins, value.__name__, None) is value:
                return {"builtin": value.__name__}
            bases = [self.mention(base) for base in value.__bases__ if issubclass(base, BaseException)]
            return {"object": self.number(value), "name": value.__name__, "bases": bases}
        return {"object": self.number(value)}

    def number(self, value: Any) -> int:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.kept)
            self.kept.append(value)
        return self.numbers[id(value)]

    def read(self, said: Any) -> Any:
        [(tag, inner)] = said.items()
        if tag == "value":
            return unpack(inner)
        if tag == "object":
            return self.kept[inner]
        if tag == "written":
            return WRITTEN[inner[0]][2](inner[1])
        return {"list": list, "tuple": tuple}[tag](self.read(item) for item in inner)


def answer(objects: Objects, request: Any) -> Any:
    """What came of it."""
    args = [objects.read(each) for each in request["args"]]
    kwargs = {name: objects.read(each) for name, each in request["kwargs"].items()}
    try:
        return {"came": crossed(DO[request["do"]](*args, **kwargs), objects.mention)}
    except BaseException as error:  # noqa: BLE001 - whatever it is, the call came to that
        return {"raised": objects.mention(type(error)), "error": objects.number(error), "words": str(error)[:300]}


def main() -> None:
    """The first line of stdin is the nonce, each other one a request."""
    channel = Channel()
    channel.say({"ready": version()})
    sys.path.insert(0, os.getcwd())
    objects = Objects()
    while True:
        request = channel.hear()
        channel.say({"id": request["id"], **answer(objects, request)})


main()
