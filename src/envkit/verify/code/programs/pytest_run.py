"""Runs pytest over given tests and reports each by its id, with a nonce, on a descriptor of its own.

Started in isolated mode, so that no sitecustomize, environment variable or user site has run before. pytest and what it
needs are imported before the project's folder can be searched, and no ini file, plugin or cache of the box is read.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    lines = os.fdopen(os.dup(0), "rb")
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    nonce, tests, beside = json.loads(lines.readline())

    def say(message: Any) -> None:
        data = ("\n" + nonce + " " + json.dumps(message) + "\n").encode("ascii")
        while data:
            data = data[os.write(channel, data) :]

    sys.path.append(beside)  # what the host put there, for a Python that has no pytest of its own
    try:
        import pytest
    except ImportError:
        say({"missing": True})
        os._exit(0)
    say({"ready": f"Python {sys.version.split()[0]}, pytest {pytest.__version__}"})

    class Reporter:
        def pytest_runtest_logreport(self, report: Any) -> None:
            xfail = hasattr(report, "wasxfail")
            words = "" if report.passed else str(report.longreprtext)[-300:]
            say({"id": report.nodeid, "when": report.when, "outcome": report.outcome, "xfail": xfail, "why": words})

        def pytest_collectreport(self, report: Any) -> None:
            if not report.passed:
                say({"uncollected": str(report.nodeid), "why": str(report.longrepr)[-300:]})

    root = os.getcwd()
    sys.path.insert(0, root)
    options = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", root, "--confcutdir", root, "--tb=short"]
    code = pytest.main([*options, *tests], plugins=[Reporter()])
    say({"end": int(code)})
    os._exit(0)


main()
