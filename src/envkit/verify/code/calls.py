"""Function tasks: the candidate's functions are called in a box, and what they return is compared outside.

The expected values never enter the box, so nothing that the candidate can read, patch or forge there helps it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import ExecLimits, ExecResult, MiB
from envkit.verify.code.channel import frames, new_nonce
from envkit.verify.code.clock import apart
from envkit.verify.code.compare import Compare, exact
from envkit.verify.code.extract import Program, as_program
from envkit.verify.code.nothing import nothing_to_run
from envkit.verify.code.programs import program
from envkit.verify.code.programs.codec import kind_of, pack, to_text, unpack
from envkit.verify.code.verdict import (
    SHOWN,
    CaseVerdict,
    Fresh,
    Verdict,
    conclude,
    ending,
    printable,
    without_addresses,
)

RESULTS = 16 * MiB
"""What the results of one run may take on the channel, at least; a single one is capped by the codec."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the candidate's function and what it should return: `function` is "name", "module.name" or
    "Class().name"."""

    function: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    expected: Any = None


async def judge_calls(
    fresh: Fresh,
    source: Program | str | None,
    calls: Sequence[Call],
    *,
    limits: ExecLimits | None = None,
    compare: Compare = exact,
    stop_early: bool = True,
) -> Verdict:
    """The verdict on a Python program whose functions are called, each with arguments of its own making.

    `limits` hold for one run, which makes all the calls. Where a run ends before its last call, as by a hang, that call
    has failed; without `stop_early` another run makes those that are left. InfraError where Python cannot be run.
    """
    if not calls:
        raise UsageError("There is nothing to judge: judge_calls was given no calls.")
    if source is None:
        return await nothing_to_run(fresh)
    judged = as_program(source, "python")
    requests = [_request(index, call) for index, call in enumerate(calls)]
    cases: list[CaseVerdict] = []
    while True:
        run = await _run(fresh, judged.source, requests[len(cases) :], limits)
        if run.unusable is not None:
            return conclude(judged, cases, len(calls), interpreter=run.interpreter, reason=run.unusable)
        cases += await apart(len(run.result.stdout), _cases, run, calls, len(cases), compare, stop_early)
        if len(cases) == len(calls) or (stop_early and not cases[-1].passed):
            return conclude(judged, cases, len(calls), interpreter=run.interpreter)


@dataclass(frozen=True)
class _Run:
    """What came of one run: why the program cannot be used, or the messages of its calls, in their order."""

    interpreter: str | None
    result: ExecResult
    messages: Iterator[dict[str, Any]]
    unusable: str | None = None


async def _run(fresh: Fresh, source: str, requests: Sequence[str], limits: ExecLimits | None) -> _Run:
    nonce = new_nonce()
    stdin = "".join(f"{line}\n" for line in (to_text(nonce), to_text(source), *requests)).encode("ascii")
    async with fresh() as box:
        within = limits or box.spec.limits
        room = within.model_copy(update={"output": max(within.output, RESULTS)})
        result = await box.python(program("codec.py", "channel.py", "candidate.py"), stdin=stdin, limits=room)
    run = await apart(len(result.stdout), _opened, result, nonce)
    if run.interpreter is not None:
        return run
    if not source:
        raise InfraError(
            f"Not even an empty Python program can be run in the box: it {ending(result)}. Is `python3` in its image?"
        )
    control = await _run(fresh, "", (), limits)  # raises where the box is at fault and not the program
    gone = f"the program {_end(result)}, and what was said before is gone"
    return replace(run, interpreter=control.interpreter, unusable=gone)


def _opened(result: ExecResult, nonce: str) -> _Run:
    """What a run's first two messages say; `interpreter` is None where they are not there."""
    messages = frames(result.stdout, nonce)
    nothing: dict[str, Any] = {}
    match next(messages, nothing), next(messages, nothing):
        case {"ready": str(version)}, {"loaded": True}:
            return _Run(printable(version, 80), result, messages)
        case {"ready": str(version)}, {"unloadable": raised}:
            return _Run(printable(version, 80), result, messages, described(raised))
        case {"ready": str(version)}, _:
            return _Run(printable(version, 80), result, messages, f"the program {_end(result)} while it was loaded")
        case _:
            return _Run(None, result, messages)


def _cases(run: _Run, calls: Sequence[Call], first: int, compare: Compare, stop_early: bool) -> list[CaseVerdict]:
    """The verdicts on the calls from the first on that a run answered, and on the one that it did not."""
    cases: list[CaseVerdict] = []
    for index in range(first, len(calls)):
        reply = next((message for message in run.messages if message.get("id") == index), None)
        cases.append(_judge(calls[index], reply, run.result, compare))
        if reply is None or (stop_early and not cases[-1].passed):
            break
    return cases


def _request(index: int, call: Call) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\(\))?(\.[^\W\d]\w*(\(\))?)*", call.function):
        raise UsageError(f"{call.function!r} is no function to call. Write 'name', 'module.name' or 'Class().name'.")
    args, kwargs = pack(list(call.args)), pack(dict(call.kwargs))
    text = to_text({"id": index, "function": call.function, "args": args, "kwargs": kwargs, "mutations": False})
    if '{"o":' in text:  # in a string the quotes would be escaped
        raise UsageError(
            f"The arguments of call {index} of {call.function} hold what cannot be sent to a box. "
            "Use None, bool, int, float, complex, str, bytes, range, list, tuple, set, frozenset and dict."
        )
    return text


def _judge(call: Call, reply: dict[str, Any] | None, result: ExecResult, compare: Compare) -> CaseVerdict:
    expected, memory = shown(call.expected), result.peak_memory
    if reply is None:
        how = f"the program {_end(result)} before it returned"
        return CaseVerdict(False, expected, None, how, result.wall, memory)
    said = reply.get("wall")
    wall = min(max(0.0, said), result.wall) if isinstance(said, float) else 0.0
    if "value" not in reply:
        return CaseVerdict(False, expected, None, described(reply.get("raised")), wall, memory)
    try:
        got = unpack(reply["value"])
    except (ValueError, RecursionError, OverflowError):
        return CaseVerdict(False, expected, None, "the result cannot be read", wall, memory)
    passed = compare(call.expected, got)
    reason = "equal" if passed else f"different: expected {shown(call.expected)}, got {shown(got)}"
    return CaseVerdict(passed, expected, shown(got), reason, wall, memory)


def _end(result: ExecResult) -> str:
    return "ended by itself" if result.ok else ending(result)


def shown(value: object) -> str:
    """A plain value's beginning for people, as `repr` has it, at the cost of what is shown, however large it is."""
    text = ""
    for piece in _written(value):
        text += piece
        if len(text) > SHOWN:
            break
    return printable(text)


def _written(value: Any) -> Iterator[str]:
    """`repr`, or nearly so, piece by piece."""
    match value:
        case str() | bytes() | bytearray():
            yield repr(value[: SHOWN + 1])
        case int() if value.bit_length() > 4096:
            yield f"an integer of {value.bit_length()} bits"
        case list() | tuple() | set() | frozenset() | deque() | dict() | range():
            yield from _nested(cast(Any, value))
        case _:
            yield repr(value)


_BRACKETS = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), dict: ("{", "}"), range: ("range(", ")")}


def _nested(values: Any) -> Iterator[str]:
    kind = kind_of(values)
    items = (values.start, values.stop, values.step) if kind is range else values
    opening, closing = _BRACKETS.get(kind, (f"{kind.__name__}(", ")"))
    yield "set(" if kind is set and not items else opening
    for index, item in enumerate(items):
        yield ", " if index else ""
        yield from _written(item)
        if isinstance(values, dict):
            yield ": "
            yield from _written(values[item])
    yield ",)" if kind is tuple and len(items) == 1 else ")" if kind is set and not items else closing


def described(raised: Any) -> str:
    """An error that the candidate's interpreter told of, in one printable line."""
    match raised:
        case {"names": [str(name), *_], "words": str(words), "line": int(line)}:
            where = f"line {line}: " if line else ""
            return printable(without_addresses(f"{where}{name}: {words}" if words else f"{where}{name}"))
        case _:
            return "an error that cannot be read"
