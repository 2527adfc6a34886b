"""A Python that keeps its names from one piece of code to the next; it runs inside a box, and needs nothing of envkit.

On stdin come pieces of code, each after a line `MARK LENGTH`. What a piece prints goes to stdout with its errors and
the value of its last expression; a line with the piece's mark ends it. The mark is new for each piece.
"""

import ast
import contextlib
import linecache
import os
import sys
import traceback
import types


def main() -> None:
    commands = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # code that asks for input finds its end, not the next piece
    os.dup2(1, 2)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    number = 0
    while True:
        head = commands.readline()
        if not head:
            return
        mark, length = head.split()
        number += 1
        run(commands.read(int(length)).decode("utf-8", "surrogatepass"), module.__dict__, f"<cell {number}>")
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(Exception):  # the code put something of its own there
                print(end="", file=stream, flush=True)
        os.write(1, b"\n" + mark + b"\n")


def run(source: str, names: dict[str, object], name: str) -> None:
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    try:
        tree = ast.parse(source, name)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, name, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), names)
            if value is not None:
                print(repr(value))
    except SystemExit as end:
        if end.code not in (None, 0):
            print(f"SystemExit: {end.code}")
    except BaseException as error:  # noqa: BLE001 - all of it is for whoever wrote the code
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        sys.stdout.flush()
        traceback.print_exception(type(error), error, frames)


if __name__ == "__main__":
    main()
