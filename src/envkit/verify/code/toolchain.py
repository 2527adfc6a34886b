"""How each language is run in a box: its files, its compiler, its version, and what to install where it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from envkit.errors import InfraError, UsageError
from envkit.sandbox.base import ExecLimits, GiB, Sandbox
from envkit.verify.code.programs import program
from envkit.verify.code.verdict import printable

COMPILE = ExecLimits(wall=60.0, cpu=60.0, memory=2 * GiB, pids=64)
"""A compiler's limits: templates of C++ take longer than the programs they make."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """`file` is the source's name in the workdir; `compile` makes `run`'s program of it, empty where nothing does."""

    language: str
    file: str
    compile: tuple[str, ...]
    run: tuple[str, ...]
    probe: tuple[str, ...]
    prefix: str
    package: str


TOOLCHAINS = {
    tools.language: tools
    for tools in (
        Toolchain("python", "main.py", (), ("python3", "main.py"), (), "", "python3"),
        Toolchain("javascript", "main.js", (), ("node", "main.js"), ("node", "--version"), "node ", "nodejs"),
        Toolchain("bash", "main.sh", (), ("bash", "main.sh"), ("bash", "--version"), "", "bash"),
        Toolchain(
            "c",
            "main.c",
            ("gcc", "-O2", "-std=gnu17", "-w", "-o", "main", "main.c", "-lm"),
            ("./main",),
            ("gcc", "--version"),
            "",
            "gcc",
        ),
        Toolchain(
            "cpp",
            "main.cpp",
            ("g++", "-O2", "-std=gnu++17", "-w", "-o", "main", "main.cpp"),
            ("./main",),
            ("g++", "--version"),
            "",
            "g++",
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
        raise InfraError(
            f"The box cannot run {tools.language}: `{program_name}` did not answer "
            f"(exit code {result.code}, {result.reason}). Install {tools.package} in its image."
        )
    return printable(tools.prefix + text, 80)
