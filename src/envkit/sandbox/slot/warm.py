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

_stdlib: list[str] = []
_py_exit = ctypes.pythonapi.Py_Exit
_libc_exit = ctypes.CDLL(None).exit
"""With the buffers of C libraries, without the interpreter's own end."""


def prepare(executable: str, paths: list[str]) -> None:
    """In init, once: what does not depend on the program."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    sys.executable = executable
    _stdlib[:] = [*(path for path in sys.path if path.startswith((sys.base_prefix, "/usr"))), *paths]


def run(request: dict[str, Any], source: bytes) -> NoReturn:
    """Run the source as `__main__`, and end as the interpreter ends."""
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [MAIN, *request["argv"]]
    sys.orig_argv = ["python3", *sys.argv]
    sys.path[:] = [os.path.dirname(MAIN), *_stdlib]
    _rebuild_streams()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with suppress(OSError):  # a full box: tracebacks are without their lines then
        os.chdir(request["cwd"])
        with suppress(FileNotFoundError):
            os.unlink(MAIN)
        with open(MAIN, "wb") as file:
            file.write(source)
    for name in [name for name in sys.modules if name == "slot" or name.startswith("slot.")]:
        del sys.modules[name]
    gc.enable()
    _exit(_code(source))


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
    for module in [module for name, module in sys.modules.items() if name == "__main__" or _is_own(module)]:
        for name in sorted(vars(module), key=lambda name: not name.startswith("_")):
            if name != "__builtins__":
                vars(module)[name] = None
    gc.collect()
    _flush()
    _libc_exit(code & 0xFF)
    os._exit(code & 0xFF)


def _is_own(module: types.ModuleType) -> bool:
    """Whether the program brought the module, as opposed to Python and its packages."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith((sys.base_prefix, "/usr/"))
