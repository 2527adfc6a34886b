"""Runs trusted tests in a box of their own; the candidate's function is a call that the host relays to another box.

The report is this program's, in a process that no code of the candidate ever entered: only plain values did.
"""

from __future__ import annotations

import builtins
import itertools
import os
import sys
from typing import Any

from envkit.verify.code.programs.channel import Channel, version
from envkit.verify.code.programs.codec import pack, unpack


class Installed:
    """Finds installed packages only when tests import one: Python runs without `site`, which takes long to start."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        import site
        from importlib.machinery import PathFinder

        sys.meta_path.remove(self)
        site.main()
        return PathFinder.find_spec(name, path, target)


def remote(channel: Channel, name: str) -> Any:
    """The candidate's function, as the tests call it. Lists, dicts, sets and bytearrays among its arguments are left as
    the candidate left them; what lies deeper in them is then made anew."""
    numbers = itertools.count()

    def candidate(*args: Any, **kwargs: Any) -> Any:
        number = next(numbers)
        request = {"id": number, "function": name, "args": pack(list(args)), "kwargs": pack(kwargs), "mutations": True}
        channel.say({"call": request})
        reply = channel.hear()
        if "args" in reply:
            for mine, theirs in zip(args, unpack(reply["args"])):  # noqa: B905 - not in old interpreters
                put_back(mine, theirs)
        if "raised" in reply:
            raise error_of(reply["raised"])
        return unpack(reply["value"])

    candidate.__name__ = name
    return candidate


def put_back(mine: Any, theirs: Any) -> None:
    if type(mine) is not type(theirs) or mine == theirs:
        return
    if type(mine) in (list, bytearray):
        mine[:] = theirs
    elif type(mine) in (dict, set):
        mine.clear()
        mine.update(theirs)


ENDINGS = ("StopIteration", "StopAsyncIteration", "GeneratorExit")
"""What ends whoever iterates, in silence: `all(map(check, cases))` would take it for the end of its cases."""


def error_of(raised: Any) -> BaseException:
    """An exception of the same name, of the nearest built-in kind that it had."""
    names, words = raised["names"], raised["words"]
    if not set(ENDINGS).isdisjoint(names):
        return RuntimeError(f"the function raised {names[0]}: {words}")
    kinds = [getattr(builtins, name, None) for name in names]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseException):
            try:
                return made(kind, str(names[0]), words)
            except (TypeError, ValueError):  # such as UnicodeDecodeError, which takes five arguments: the next is near
                pass
    return Exception(words)


def made(kind: Any, name: str, words: str) -> BaseException:
    return (kind if kind.__name__ == name else type(name, (kind,), {}))(words)


def where(error: BaseException, tests: str) -> str:
    """The error and the line of the tests where it came up."""
    import traceback

    words = "".join(traceback.format_exception_only(type(error), error)).strip()[-300:]
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "tests.py" and f.lineno]
    if not lines:
        return words
    return f"{words} at line {lines[-1]} of the tests: {tests.splitlines()[lines[-1] - 1].strip()[:200]}"


def main() -> None:
    sys.meta_path.append(Installed())
    channel = Channel()
    channel.say({"ready": version()})
    context, tests, function = channel.hear()
    names: Any = {"__name__": "tests", "__builtins__": builtins}
    try:
        exec(compile(context, "context.py", "exec"), names)
        code = compile(tests, "tests.py", "exec")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the tests cannot be run
        channel.say({"broken": f"{type(error).__name__}: {error}"[:300]})
        os._exit(0)
    names["candidate"] = names[function] = remote(channel, function)
    try:
        exec(code, names)
    except BaseException as error:  # noqa: BLE001 - whatever it is, a test failed
        channel.say({"passed": False, "why": where(error, tests)})
    else:
        channel.say({"passed": True, "why": ""})
    os._exit(0)


main()
