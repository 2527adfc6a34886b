"""Runs a task's own checker, which is trusted, beside three files, of which `output` holds what a candidate printed.

The checker is a program as `python3 checker.py input output answer`, as testlib's are: it accepts by ending well, and
rejects by `sys.exit` with anything but 0 or by raising; 3 says that it failed itself. Its verdict is told here, with a
nonce that no file holds.
"""

from __future__ import annotations

import json
import os
import sys

FAILED = 3
"""The exit code of a checker that cannot tell, as testlib has it."""


def main() -> None:
    nonce, source = json.loads(sys.stdin.buffer.read())
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.argv = ["checker.py", "input.txt", "output.txt", "answer.txt"]
    checker = compile(source, "checker.py", "exec")
    accepted, why = True, ""
    try:
        exec(checker, {"__name__": "__main__"})
    except SystemExit as end:
        if end.code == FAILED:
            raise
        accepted = end.code is None or end.code == 0
        why = end.code if isinstance(end.code, str) else ""
    except BaseException as error:  # noqa: BLE001 - whatever it is, the checker does not accept
        accepted, why = False, f"the checker raised {type(error).__name__}: {error}"
    sys.stdout.flush()
    message = json.dumps({"accepted": accepted, "why": why[:300]})
    os.write(channel, ("\n" + nonce + " " + message + "\n").encode("ascii"))


main()
