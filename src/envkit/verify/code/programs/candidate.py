"""Runs in the candidate's box: loads its program and calls its functions. Whatever is said here may be forged."""

from __future__ import annotations

import os
import sys
import time
import types
from typing import Any

from envkit.verify.code.programs.channel import Channel, version
from envkit.verify.code.programs.codec import pack, to_text, unpack


def raised(error: BaseException) -> Any:
    """An error as its names, nearest first, its words, and the line of the program where it came up."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "solution.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        words = str(error)[:300]
    except BaseException:  # noqa: BLE001 - its own method raised
        words = ""
    return {"names": [kind.__name__[:100] for kind in type(error).__mro__][:20], "words": words, "line": line}


def load(source: str) -> types.ModuleType:
    module = types.ModuleType("solution")
    module.__file__ = "solution.py"
    sys.modules["solution"] = module
    exec(compile(source, "solution.py", "exec"), module.__dict__)
    return module


def find(module: Any, path: str) -> Any:
    """What "name" or "Class().name" stands for in the program."""
    found = module
    for part in path.split("."):
        found = getattr(found, part[:-2])() if part.endswith("()") else getattr(found, part)
    return found


def answer(module: Any, request: Any) -> Any:
    """What a call came to, and its arguments where it changed them."""
    args, kwargs = unpack(request["args"]), unpack(request["kwargs"])
    before = to_text(pack(args)) if request["mutations"] else ""
    reply = {"id": request["id"]}
    started = time.perf_counter()
    try:
        value = find(module, request["function"])(*args, **kwargs)
        reply["wall"] = time.perf_counter() - started
        reply["value"] = pack(value)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the call came to that
        reply["raised"] = raised(error)
    if request["mutations"]:
        after = pack(args)
        if to_text(after) != before:
            reply["args"] = after
    return reply


def main() -> None:
    """The first line of stdin is the nonce, the second the program, each other one a call."""
    channel = Channel()
    channel.say({"ready": version()})
    source = channel.hear()
    try:
        module = load(source)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the program cannot be used
        channel.say({"unloadable": raised(error)})
        os._exit(0)
    channel.say({"loaded": True})
    while True:
        channel.say(answer(module, channel.hear()))


main()
