"""Tests that pytest runs over a candidate's files, in a fresh box that has nothing else of the candidate's.

The tests import the candidate's code into their own process, where it can read them and change how they are run. What
ends early, leaves tests out, skips them or brings configuration fails. So does what has tests pass that should not:
where all pass, they are run once more, in another box, each with an assertion made wrong, and must fail. Code that
reads the tests, works out what they expect and answers with that is not found out. Where a task can be judged by
`judge_calls` or `judge_asserts`, those cannot be fooled so.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import ExecLimits, ExecResult, Sandbox, relative_to_workdir
from envkit.verify.code.altered import altered
from envkit.verify.code.channel import frames, new_nonce
from envkit.verify.code.programs import program
from envkit.verify.code.programs.codec import to_text
from envkit.verify.code.verdict import CaseVerdict, Fresh, Verdict, ending, printable

CONFIGURES = frozenset(
    {
        "conftest.py",
        "pytest.py",
        "pytest.ini",
        ".pytest.ini",
        "tox.ini",
        "setup.cfg",
        "sitecustomize.py",
        "usercustomize.py",
    }
)
"""Files by which a candidate would take part in its own judgement; only the tests may bring them."""


BESIDE = "/tmp/envkit-pytest"
"""Where this machine's pytest is put in a box whose Python has none."""

INTERNAL_ERROR = 3
"""pytest's exit code."""

REPORTS = 100_000
"""Messages that are read of one run; each test makes three."""


async def judge_pytest(
    fresh: Fresh,
    files: Mapping[str, bytes],
    tests: Mapping[str, bytes],
    *,
    expected: Sequence[str] | None = None,
    limits: ExecLimits | None = None,
) -> Verdict:
    """The verdict on a candidate's `files` by trusted `tests`, both by their paths relative to the box's workdir.

    The tests come last, read-only, in the place of files of the candidate that have the same path; its configuration
    of pytest is left out. `expected` are the ids of the tests that must pass, such as "tests/test_a.py::test_b";
    without it every test that was found. Skipped and expected failures fail. A box without pytest is given this
    machine's; InfraError where that has none either.
    """
    tests = {str(PurePosixPath(path)): data for path, data in tests.items()}
    collected = sorted(path for path in tests if _is_test(PurePosixPath(path).name))
    if not collected or (expected is not None and not expected):
        raise UsageError("There is nothing to judge: no file is named test_*.py or *_test.py, or no test is expected.")
    messages, result = await _run(fresh, files, tests, collected, limits)
    version = _version(messages)
    if version is None or _broke(messages):  # the box's fault, or the candidate's?
        alone, ended = await _run(fresh, {}, {"test_alone.py": b"def test(): pass\n"}, ["test_alone.py"], limits)
        version = _version(alone)
        if version is None or _broke(alone):
            raise InfraError(f"pytest cannot be run in the box: Python {ending(ended)}. Install pytest in its image.")
    verdict = _verdict(messages, result, version, expected)
    if verdict and (passed := await _passes_what_is_wrong(fresh, files, tests, collected, messages, limits)):
        return replace(verdict, correct=False, reason=passed)
    return verdict


async def _passes_what_is_wrong(
    fresh: Fresh,
    files: Mapping[str, bytes],
    tests: Mapping[str, bytes],
    collected: Sequence[str],
    messages: Sequence[dict[str, Any]],
    limits: ExecLimits | None,
) -> str | None:
    """Why the passes of these messages are not to be believed, where they are not."""
    passed = _reported_as("passed", messages)
    wrong, ids = altered({path: tests[path] for path in collected}, {test.partition("[")[0] for test in passed})
    again, result = await _run(fresh, files, {**tests, **wrong}, collected, limits)
    if not _ended(again):
        return f"pytest did not come to its end with tests that must fail: it {ending(result)}"
    due = {test for test in passed if test.partition("[")[0] in ids} or ids
    if due <= _reported_as("failed", again) - _reported_as("passed", again):
        return None
    return "a test that must fail was not reported so: how tests are run was changed"


def _reported_as(outcome: str, messages: Sequence[dict[str, Any]]) -> set[str]:
    """The tests that were called, with this outcome."""
    called = (message for message in messages if message.get("when") == "call" and message.get("outcome") == outcome)
    return {test for message in called if isinstance(test := message.get("id"), str)}


@cache
def _pytest_here() -> bytes:
    """This machine's pytest with what it imports, as a tar archive; b"" where there is none."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        try:
            requires = [said for said in distribution("pytest").requires or () if "extra ==" not in said]
        except PackageNotFoundError:
            return b""
        for name in ("pytest", *map(_name, requires)):
            with suppress(PackageNotFoundError):  # what only other systems or older Pythons need
                for file in distribution(name).files or ():
                    if (
                        (file.suffix in (".py", ".pyc") or file.name == "METADATA")
                        and ".." not in file.parts
                        and _is_used(file.parts)
                    ):
                        tar.add(str(file.locate()), str(file))
    return packed.getvalue()


_LEXERS = frozenset({"__init__", "_mapping", "diff", "python"})
"""Those of pygments that pytest imports; the others are twenty times the size of pytest."""


def _is_used(parts: Sequence[str]) -> bool:
    """Whether a file of these distributions is imported on the way to pytest."""
    return parts[:2] != ("pygments", "lexers") or parts[-1].partition(".")[0] in _LEXERS


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _is_test(name: str) -> bool:
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


async def _run(
    fresh: Fresh,
    files: Mapping[str, bytes],
    tests: Mapping[str, bytes],
    collected: Sequence[str],
    limits: ExecLimits | None,
) -> tuple[list[dict[str, Any]], ExecResult]:
    """What was said of one run. Where there is no pytest, none of the candidate's code has run: ours is put beside."""
    async with fresh() as box:
        await _place(box, files, tests)
        messages, result = await _reported(box, collected, limits)
        if messages == [{"missing": True}] and (ours := _pytest_here()):
            await box.upload(ours, BESIDE)
            messages, result = await _reported(box, collected, limits)
    return messages, result


async def _reported(
    box: Sandbox, collected: Sequence[str], limits: ExecLimits | None
) -> tuple[list[dict[str, Any]], ExecResult]:
    nonce = new_nonce()
    argv = ["python3", "-I", "-B", "-c", program("pytest_run.py")]
    stdin = to_text([nonce, list(collected), BESIDE]).encode("ascii") + b"\n"
    result = await box.exec(argv, stdin=stdin, limits=limits)
    return list(islice(frames(result.stdout, nonce), REPORTS)), result


async def _place(box: Sandbox, files: Mapping[str, bytes], tests: Mapping[str, bytes]) -> None:
    theirs = {relative_to_workdir(box.spec, path): data for path, data in files.items()}
    ours = {relative_to_workdir(box.spec, path): data for path, data in tests.items()}
    for path, data in theirs.items():
        name = PurePosixPath(path).name
        if path not in ours and name not in CONFIGURES and not name.endswith((".pth", ".pyc", ".so")):
            await box.write(path, data)
    for path, data in ours.items():
        await box.write(path, data, mode=0o444)


def _version(messages: Sequence[dict[str, Any]]) -> str | None:
    match messages[0] if messages else {}:
        case {"ready": str(version)}:
            return printable(version, 80)
        case _:
            return None


def _broke(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether pytest itself failed."""
    return bool(messages) and messages[-1].get("end") == INTERNAL_ERROR


def _ended(messages: Sequence[dict[str, Any]]) -> bool:
    return bool(messages) and "end" in messages[-1]


def _verdict(
    messages: Sequence[dict[str, Any]], result: ExecResult, version: str, expected: Sequence[str] | None
) -> Verdict:
    """Each test by all that was reported of it: it passed where every phase did, the call among them."""
    failed: dict[str, str] = {}
    called: set[str] = set()
    for message in messages:
        match message:
            case {"id": str(test), "when": "call", "outcome": "passed", "xfail": False}:
                called.add(test)
            case {"id": str(), "when": "setup" | "teardown", "outcome": "passed"}:
                pass
            case {"id": str(test), "outcome": str(outcome), "why": str(why)}:
                failed.setdefault(test, f"{outcome}: {_last(why)}")
            case {"uncollected": str(test), "why": str(why)}:
                failed.setdefault(test, f"not collected: {_last(why)}")
            case _:
                pass
    wanted = list(expected) if expected is not None else sorted({*called, *failed})
    cases = [_case(test, called, failed, result) for test in wanted]
    reason = next((case.reason for case in cases if not case.passed), None if cases else "pytest found no test")
    if not _ended(messages):
        reason = f"pytest did not come to its end: it {ending(result)}"
    return Verdict(reason is None, tuple(cases), reason, None, interpreter=version)


def _case(test: str, called: Set[str], failed: Mapping[str, str], result: ExecResult) -> CaseVerdict:
    passed = test in called and test not in failed
    how = "passed" if passed else failed.get(test, "not run")
    return CaseVerdict(passed, None, None, printable(f"{test}: {how}"), result.wall, result.peak_memory)


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2]
