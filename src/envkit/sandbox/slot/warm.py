"""A Python program in an interpreter that is already started: what `python3 /tmp/main.py` shows, without its 10 ms.

Runs in a fork of a slot's init that has given up everything. The standard library only.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import signal
import site
import sys
import types
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from typing import Any, NoReturn

MAIN = "/tmp/main.py"

REHEARSALS = 20
"""After some 10 the interpreter has adapted its code to what it does."""

_stdlib: list[str] = []
_last: list[str] = []
"""The module before the first that a program brings."""
_py_exit = ctypes.pythonapi.Py_Exit
_libc_exit = ctypes.CDLL(None).exit
"""With the buffers of C libraries, without the interpreter's own end."""


def prepare(executable: str, paths: list[str]) -> None:
    """In init, once: what does not depend on the program."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    sys.executable = executable
    for name in [name for name in sys.modules if name.partition(".")[0] in ("slot", "ctypes")]:
        del sys.modules[name]
    _last[:] = [next(reversed(sys.modules))]
    _stdlib[:] = [*(path for path in sys.path if path.startswith((sys.base_prefix, "/usr"))), *paths]

    _rehearse()


def _rehearse() -> None:
    """Go through what every program goes through, so that all that the interpreter notes meanwhile is noted before the
    forks, which have to copy each page of memory that they write to."""
    main = sys.modules["__main__"]
    for _ in range(REHEARSALS):
        _set_up({"env": {"PATH": "", "HOME": ""}, "argv": []})
        _code(b"pass")
        _flush()
        _empty_modules()
    sys.modules["__main__"] = main


def run(request: dict[str, Any], source: bytes) -> NoReturn:
    """Run the source as `__main__`, and end as the interpreter ends."""
    _set_up(request)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with suppress(OSError):  # a full box: tracebacks are without their lines then
        os.chdir(request["cwd"])
        with suppress(FileNotFoundError):
            os.unlink(MAIN)
        with open(MAIN, "wb") as file:
            file.write(source)
    gc.enable()
    _exit(_code(source))


def _set_up(request: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [MAIN, *request["argv"]]
    sys.orig_argv = ["python3", *sys.argv]
    sys.path[:] = [os.path.dirname(MAIN), *_stdlib]
    _rebuild_streams()


def _rebuild_streams() -> None:
    """The streams that Python would have made of the descriptors that are there now."""
    errors = sys.stdout.errors
    for number, name, mode, on_error in (
        (0, "stdin", "r", errors),
        (1, "stdout", "w", errors),
        (2, "stderr", "w", "backslashreplace"),
    ):
        raw = io.FileIO(number, mode, closefd=False)
        raw.name = f"<{name}>"
        buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
        stream = io.TextIOWrapper(buffer, "utf-8", on_error, line_buffering=number == 2)
        stream.mode = mode  # type: ignore[attr-defined]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _code(source: bytes) -> int:
    """The exit code of the program; an exception that it lets out is shown as the interpreter shows it."""
    main = types.ModuleType("__main__")
    main.__file__ = MAIN
    main.__loader__ = SourceFileLoader("__main__", MAIN)
    main.__dict__.update(__builtins__=sys.modules["builtins"], __cached__=None, __annotations__={})
    sys.modules["__main__"] = main
    try:
        exec(compile(source, MAIN, "exec", dont_inherit=True), main.__dict__)
    except SystemExit as end:
        return _exit_code(end.code)
    except BaseException as error:  # noqa: BLE001 - shown below
        trace = error.__traceback__
        error.__traceback__ = trace.tb_next if trace is not None else None  # without our own frame
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            _flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 1
    return 0


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    with suppress(Exception):
        print(code, file=sys.stderr)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def _exit(code: int) -> NoReturn:
    """End as the interpreter does: threads, atexit, flushed streams, then the program's own objects and open files.

    What it would do besides, taking every module of the standard library apart, costs as much as the rest of an
    execution, and no program sees it.
    """
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    if len(sys._current_frames()) > 1:  # daemon threads, which only the interpreter itself can stop  # pyright: ignore[reportPrivateUsage]
        _py_exit(code & 0xFF)
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    _flush()
    _empty_modules()
    gc.collect()
    _flush()
    if _imported():  # or no C library can have anything to do at its end, which writes to the memory of all of them
        _libc_exit(code & 0xFF)
    os._exit(code & 0xFF)


def _empty_modules() -> None:
    for module in [sys.modules["__main__"], *filter(_is_own, _imported())]:
        for name in sorted(vars(module), key=lambda name: not name.startswith("_")):
            if name != "__builtins__":
                vars(module)[name] = None


def _imported() -> list[types.ModuleType]:
    """What the program has imported. The modules before that are not looked at: each look at an object writes to its
    page of memory, which the kernel has to copy first."""
    names: list[str] = []
    for name in reversed(sys.modules):
        if name == _last[0]:
            break
        names.append(name)
    return [sys.modules[name] for name in reversed(names)]


def _is_own(module: types.ModuleType) -> bool:
    """Whether the program brought the module, as opposed to Python and its packages."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith((sys.base_prefix, "/usr/"))
