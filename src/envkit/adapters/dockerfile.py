"""What a task's Dockerfile asks for, and whether that is only files in a plain system: then no image need be built.

Plain is a Dockerfile that begins from Debian, Ubuntu or Python and has nothing but WORKDIR, COPY, ENV and what makes no
difference to a box. Its files are copied to a box of whatever programs the backend has, whichever version it asks for.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envkit.adapters.harbor_config import Unsupported
from envkit.adapters.task_files import files
from envkit.errors import UsageError

BASES = re.compile(
    r"(?:(?:docker\.io/)?(?:library/)?(?:debian|ubuntu|python)|ghcr\.io/laude-institute/t-bench/(?:ubuntu|python)[\w-]*)"
    r"(?::[\w.-]+)?"
)
WORKDIRS = {"ghcr.io/laude-institute/t-bench/": "/app"}
"""Where a base has a working folder of its own."""

_HEREDOC = r"<<-?\s*[\"']?(\w+)"
BUILDKIT = {
    "RUN": re.compile(rf"^--(?:mount|network|security)\b|{_HEREDOC}"),
    "COPY": re.compile(rf"^(?:--\S+\s+)*--(?:link|chmod|parents|exclude)\b|{_HEREDOC}"),
    "ADD": re.compile(rf"^(?:--\S+\s+)*--(?:link|chmod|checksum|keep-git-dir|exclude)\b|{_HEREDOC}"),
}

HARMLESS = frozenset({"CMD", "LABEL", "MAINTAINER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "SHELL"})
"""What changes nothing for programs that are started one by one in a box."""


@dataclass(frozen=True)
class Recipe:
    """`workdir` is None where the file names none. `copies` are (name in the context, absolute place in the box), None
    where an image has to be built."""

    workdir: str | None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    copies: tuple[tuple[str, str], ...] | None = None
    beyond: str | None = None
    """An instruction that only BuildKit builds, which docker's API does not offer."""


def read_dockerfile(path: Path) -> Recipe:
    """The recipe; Unsupported for what no box keeps: ENTRYPOINT, and a USER other than root."""
    try:
        steps = list(_instructions(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text: {error}") from error
    workdir: str | None = None
    for name, rest in steps:
        if name == "FROM":
            workdir = _workdir(rest)
        elif name == "WORKDIR":
            workdir = _joined(workdir, rest)
        elif name == "ENTRYPOINT" or (name == "USER" and rest.split(":")[0] not in ("root", "0")):
            raise Unsupported(f"{path}: {name} {rest} is not supported: programs are started one by one, as root.")
    if (plain := _plain(path.parent, steps)) is not None:
        return Recipe(workdir, *plain)
    beyond = next((f"{name} {rest}" for name, rest in steps if name in BUILDKIT and BUILDKIT[name].search(rest)), None)
    return Recipe(workdir, beyond=beyond)


def _plain(context: Path, steps: list[tuple[str, str]]) -> tuple[dict[str, str], tuple[tuple[str, str], ...]] | None:
    """(environment, copies) of a plain Dockerfile, else None."""
    if not steps or steps[0][0] != "FROM" or BASES.fullmatch(steps[0][1]) is None:
        return None
    if (context / ".dockerignore").exists():
        return None
    env: dict[str, str] = {}
    copies: list[tuple[str, str]] = []
    workdir = _workdir(steps[0][1])
    for name, rest in steps[1:]:
        if name in HARMLESS or name == "USER":
            continue
        if "$" in rest or "<<" in rest:
            return None
        if name == "WORKDIR":
            workdir = _joined(workdir, rest)
        elif name == "ENV":
            env |= _variables(rest)
        elif name == "COPY" and (copied := _copied(context, rest, workdir or "/")) is not None:
            copies += copied
        else:
            return None
    return env, tuple(copies)


def _copied(context: Path, rest: str, workdir: str) -> list[tuple[str, str]] | None:
    """The files of one COPY and where they go; None where it has flags or patterns. A folder's contents are copied."""
    try:
        words: list[str] = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    except ValueError:
        return None
    if len(words) < 2 or words[0].startswith("--") or any(set(word) & set("*?[") for word in words):
        return None
    *sources, last = words
    place = posixpath.join(workdir, last)
    found: list[tuple[str, str]] = []
    for source in sources:
        name = posixpath.normpath(source.lstrip("/"))
        path = context / name
        if name.startswith("..") or not path.exists():
            raise UsageError(f"{context / 'Dockerfile'}: COPY {rest}: there is no {source!r} beside it.")
        if path.is_dir():
            below = files(path, within=context)
            found += [(posixpath.normpath(f"{name}/{each}"), posixpath.join(place, each)) for each in below]
        else:
            into = last.endswith(("/", ".")) or len(sources) > 1 or posixpath.normpath(place) == workdir
            found.append((name, posixpath.join(place, posixpath.basename(name)) if into else place))
    return [(name, posixpath.normpath(to)) for name, to in found]


def _workdir(base: str) -> str | None:
    return next((place for name, place in WORKDIRS.items() if base.startswith(name)), None)


def _joined(workdir: str | None, rest: str) -> str:
    return posixpath.normpath(posixpath.join(workdir or "/", rest.strip("\"'")))


def _variables(rest: str) -> dict[str, str]:
    """Those of `ENV a=1 b="2 3"`, or of the older `ENV a 1`."""
    words = shlex.split(rest)
    if "=" not in words[0]:
        return {words[0]: " ".join(words[1:])}
    return dict(word.split("=", 1) for word in words)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction's name, in capitals, and what follows it, with continued lines joined and here-documents left
    out."""
    whole, here = "", list[str]()
    for line in text.splitlines():
        if here:
            if line.strip() == here[0]:
                del here[0]
            continue
        if line.lstrip().startswith("#") or (not whole and not line.strip()):
            continue
        whole += line.rstrip()
        if whole.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        name, _, rest = whole.strip().partition(" ")
        yield name.upper(), rest.strip()
        here = re.findall(_HEREDOC, rest) if name.upper() in BUILDKIT else []
        whole = ""
