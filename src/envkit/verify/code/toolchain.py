"""How each language is run in a box: its files, its compiler, its version, and what to install where it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import ExecLimits, ExecResult, GiB, MiB, Sandbox
from envkit.verify.code.programs import program
from envkit.verify.code.verdict import ending, printable

COMPILE = ExecLimits(wall=60.0, cpu=60.0, memory=2 * GiB, pids=64)
"""A compiler's limits: templates of C++ take longer than the programs they make."""

LARGEST = 64 * MiB
"""The longest program that a compiler may make."""

PROGRAM = "main"
"""What `compile` makes in the workdir."""

STACK = f"ulimit -s {256 << 10} 2>/dev/null; exec ./{PROGRAM}"
"""Contests give a program's stack all its memory; the usual 8 MiB stop a right one that recurses deeply."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """`file` is the source's name in the workdir; `compile` makes PROGRAM of it, empty where nothing does. `trial` is
    a program that a whole toolchain can compile and run."""

    language: str
    file: str
    compile: tuple[str, ...]
    run: tuple[str, ...]
    probe: tuple[str, ...]
    prefix: str
    package: str
    trial: str = ""


_GNU = ("-O2", "-w", "-o", PROGRAM)

TOOLCHAINS = {
    tools.language: tools
    for tools in (
        Toolchain("python", "main.py", (), ("python3", "main.py"), (), "", "python3"),
        Toolchain("javascript", "main.js", (), ("node", "main.js"), ("node", "--version"), "node ", "nodejs"),
        Toolchain("bash", "main.sh", (), ("bash", "main.sh"), ("bash", "--version"), "", "bash"),
        Toolchain(
            "c",
            "main.c",
            ("gcc", "-std=gnu17", *_GNU, "main.c", "-lm"),
            ("sh", "-c", STACK),
            ("gcc", "--version"),
            "",
            "gcc and libc6-dev",
            '#include <math.h>\n#include <stdio.h>\nint main(void) { return puts("ready") < 0 || sqrt(4.0) != 2.0; }\n',
        ),
        Toolchain(
            "cpp",
            "main.cpp",
            ("g++", "-std=gnu++17", *_GNU, "main.cpp"),
            ("sh", "-c", STACK),
            ("g++", "--version"),
            "",
            "g++ and libc6-dev",
            "#include <iostream>\n#include <vector>\nint main() { std::cout << std::vector<int>(1).size(); }\n",
        ),
    )
}


def toolchain(language: str) -> Toolchain:
    """UsageError for a language that the judges cannot run."""
    if language not in TOOLCHAINS:
        raise UsageError(f"There is no way to run {language!r} here. Languages: {', '.join(sorted(TOOLCHAINS))}.")
    return TOOLCHAINS[language]


_versions: dict[tuple[object, ...], str] = {}


async def interpreter(box: Sandbox, tools: Toolchain) -> str:
    """What runs the language in boxes of this kind, asked once of the first; InfraError where nothing does.

    To be called before the candidate's program is in the box, so that the answer is the image's.
    """
    key = (box.backend or type(box), box.spec.image, tuple(sorted(box.spec.env.items())), tools.language)
    if key not in _versions:
        _versions[key] = await _ask(box, tools)
    return _versions[key]


async def _ask(box: Sandbox, tools: Toolchain) -> str:
    if tools.probe:
        result = await box.exec(tools.probe)
    else:
        result = await box.python(program("codec.py", "channel.py", "version.py"))
    text = result.stdout.decode("utf-8", "replace").strip().partition("\n")[0]
    if not result.ok or not text:
        program_name = tools.probe[0] if tools.probe else "python3"
        raise _missing(tools, f"`{program_name}` did not answer (exit code {result.code}, {result.reason})")
    if tools.trial:
        await _try(box, tools)
    return printable(tools.prefix + text, 80)


async def _try(box: Sandbox, tools: Toolchain) -> None:
    """A compiler can be there without what it needs, and everything would then be a program that does not compile."""
    await box.write(tools.file, tools.trial.encode())
    compiled = await box.exec(tools.compile, limits=COMPILE)
    result = await box.exec(tools.run) if compiled.ok else compiled
    if not result.ok:
        does = "runs" if compiled.ok else "compiles"
        raise _missing(tools, f"no program of three lines {does} in it ({_complaint(result)})")


def _complaint(result: ExecResult) -> str:
    said = result.stderr.decode("utf-8", "replace").splitlines()
    return printable(next((line for line in said if "error" in line), ending(result)), 200)


def _missing(tools: Toolchain, why: str) -> InfraError:
    return InfraError(f"The box cannot run {tools.language}: {why}. Install {tools.package} in its image.")
