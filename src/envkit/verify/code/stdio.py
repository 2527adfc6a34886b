"""Tasks of stdin and stdout: the program runs as a real process, and what it printed is compared outside its box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from envkit.errors import EnvError, UsageError
from envkit.sandbox.base import ExecLimits, ExecResult, Sandbox
from envkit.verify.code.channel import frames, new_nonce
from envkit.verify.code.clock import apart
from envkit.verify.code.extract import Program, as_program
from envkit.verify.code.nothing import nothing_to_run
from envkit.verify.code.output import Match, compare_output
from envkit.verify.code.programs import program
from envkit.verify.code.programs.codec import to_text
from envkit.verify.code.toolchain import COMPILE, LARGEST, PROGRAM, Toolchain, interpreter, toolchain
from envkit.verify.code.verdict import (
    CaseVerdict,
    Fresh,
    Verdict,
    conclude,
    ending,
    printable,
    shown_bytes,
)


@dataclass(frozen=True, slots=True)
class StdioCase:
    """What a program reads, and what it should print."""

    stdin: str
    expected: str


async def judge_stdio(
    fresh: Fresh,
    source: Program | str | None,
    cases: Sequence[StdioCase],
    *,
    language: str = "python",
    checker: str | None = None,
    limits: ExecLimits | None = None,
    stop_early: bool = True,
) -> Verdict:
    """The verdict on a program that reads stdin and prints an answer; `limits` hold for each case, and each has a box.

    It must end by itself with code 0 and print the expected text: exactly, or by stripped lines, or token by token
    (integers exact, decimal fractions to 1e-6, NaN never equal). With a `checker` the last rung is the checker's
    instead: a trusted Python program, run as `checker.py input output answer` in a box of its own, that accepts by
    ending well and rejects by `sys.exit("why")` or by raising; EnvError where it gives no verdict, not even on the
    expected text. C and C++ are compiled once. InfraError where the toolchain is missing.
    """
    tools = toolchain(language)
    if not cases:
        raise UsageError("There is nothing to judge: judge_stdio was given no cases.")
    if source is None:
        return await nothing_to_run(fresh, language=language)
    judged = as_program(source, language)
    program: bytes | str = judged.source.encode("utf-8", "surrogatepass")
    version: str | None = None
    if tools.compile:
        async with fresh() as box:
            version = await interpreter(box, tools)
            program = await _compiled(box, tools, program)
        if isinstance(program, str):
            return conclude(judged, [], len(cases), interpreter=version, reason=program)
    runs: list[ExecResult] = []
    for case in cases:  # a box for each, or a program could keep in one what the next is to know
        async with fresh() as box:
            version = await interpreter(box, tools)
            runs.append(await _run(box, tools, program, case, limits))
        if stop_early and not await _may_pass(case, runs[-1], checker):
            break
    judgements: list[CaseVerdict] = []
    for case, result in zip(cases, runs, strict=False):  # the candidate's box is given back before a checker needs one
        judgements.append(await _judge(fresh, case, result, checker))
        if stop_early and not judgements[-1].passed:
            break
    return conclude(judged, judgements, len(cases), interpreter=version)


async def _compiled(box: Sandbox, tools: Toolchain, source: bytes) -> bytes | str:
    """The program that the compiler makes of this source; why there is none, where there is none."""
    await box.write(tools.file, source)
    result = await box.exec(tools.compile, limits=COMPILE)
    if not result.ok:
        errors = result.stderr.decode("utf-8", "replace")
        first = next((line for line in errors.splitlines() if "error" in line), errors)
        return f"the program does not compile: {printable(first, 200)}" if first else f"the compiler {ending(result)}"
    try:
        return await box.read(PROGRAM, LARGEST)
    except (FileNotFoundError, ValueError):
        return f"the program does not compile to one of at most {LARGEST >> 20} MiB"


async def _run(
    box: Sandbox, tools: Toolchain, program: bytes, case: StdioCase, limits: ExecLimits | None
) -> ExecResult:
    stdin = case.stdin.encode("utf-8", "surrogatepass")
    within = limits or box.spec.limits
    room = 2 * len(case.expected.encode("utf-8", "surrogatepass")) + 4096
    if within.output < room:  # else the right answer would be cut short
        within = within.model_copy(update={"output": room})
    if tools.language == "python":
        return await box.python(program.decode("utf-8", "surrogatepass"), stdin=stdin, limits=within)
    if tools.compile:
        await box.write(PROGRAM, program, mode=0o555)
    else:
        await box.write(tools.file, program)
    return await box.exec(tools.run, stdin=stdin, limits=within)


async def _may_pass(case: StdioCase, result: ExecResult, checker: str | None) -> bool:
    if not result.ok or result.truncated:
        return False
    return checker is not None or await _compare(case, result, tokens=True) != "different"


async def _compare(case: StdioCase, result: ExecResult, *, tokens: bool) -> Match:
    return await apart(
        len(case.expected) + len(result.stdout), partial(compare_output, tokens=tokens), case.expected, result.stdout
    )


async def _judge(fresh: Fresh, case: StdioCase, result: ExecResult, checker: str | None) -> CaseVerdict:
    expected, got = printable(case.expected), shown_bytes(result.stdout)
    if not result.ok or result.truncated:
        passed, reason = False, f"the program {ending(result)}"
    else:
        match = await _compare(case, result, tokens=checker is None)
        passed, reason = match != "different", "different output" if match == "different" else f"equal ({match})"
        if not passed and checker is not None:
            passed, reason = await _check(fresh, checker, case, result.stdout)
    return CaseVerdict(passed, expected, got, reason, result.wall, result.peak_memory)


async def _check(fresh: Fresh, checker: str, case: StdioCase, got: bytes) -> tuple[bool, str]:
    """The checker's word on an output; EnvError where it has none even for the expected one."""
    passed, why = await _run_checker(fresh, checker, case, got)
    if passed is None:
        control, broken = await _run_checker(fresh, checker, case, case.expected.encode("utf-8", "surrogatepass"))
        if control is None:
            raise EnvError(f"The task's checker gives no verdict, not even on the expected output: it {broken}.")
        return False, f"the checker gave no verdict on the output: it {why}"
    return passed, f"the checker {'accepts' if passed else 'rejects'}{f': {why}' if why else ''}"


async def _run_checker(fresh: Fresh, checker: str, case: StdioCase, got: bytes) -> tuple[bool | None, str]:
    nonce = new_nonce()
    async with fresh() as box:
        await box.write("input.txt", case.stdin.encode("utf-8", "surrogatepass"))
        await box.write("output.txt", got)
        await box.write("answer.txt", case.expected.encode("utf-8", "surrogatepass"))
        result = await box.python(program("checker.py"), stdin=to_text([nonce, checker]).encode("ascii"))
    for message in frames(result.stdout, nonce):
        match message:
            case {"accepted": bool(accepted), "why": str(why)}:
                said = result.stderr[-2000:].decode("utf-8", "replace").strip().rpartition("\n")[2]
                return accepted, printable(why or said, 200)
            case _:
                pass
    return None, ending(result)
