"""What a docstring says of a function and of each parameter, in Google's, NumPy's or Sphinx's hand."""

from __future__ import annotations

import re

_GOOGLE = re.compile(
    r"^(Args|Arguments|Parameters|Params|Returns?|Raises|Yields?|Examples?|Notes?):[ \t]*$", re.MULTILINE
)
_NUMPY = re.compile(
    r"^(Parameters|Returns?|Raises|Yields?|Examples?|Notes?|See Also)[ \t]*\n-{3,}[ \t]*$", re.MULTILINE
)
_SPHINX = re.compile(r"^:(param|parameter|arg|argument|type|returns?|rtype|raises?)\b([^:]*):[ \t]*", re.MULTILINE)
_OF_PARAMETERS = frozenset({"Args", "Arguments", "Parameters", "Params"})


def described(text: str) -> tuple[str, dict[str, str]]:
    """(what comes before the sections, the description of each parameter) of a cleaned docstring."""
    for sections, entries in ((_NUMPY, _numpy), (_GOOGLE, _google)):
        found = list(sections.finditer(text))
        if found:
            ends = [section.start() for section in found[1:]] + [len(text)]
            about: dict[str, str] = {}
            for section, end in zip(found, ends, strict=True):
                if section[1] in _OF_PARAMETERS:
                    about |= entries(text[section.end() : end])
            return text[: found[0].start()].strip(), about
    found = list(_SPHINX.finditer(text))
    if not found:
        return text.strip(), {}
    ends = [field.start() for field in found[1:]] + [len(text)]
    about = {
        field[2].split()[-1]: _joined(text[field.end() : end].splitlines())
        for field, end in zip(found, ends, strict=True)
        if field[1] in ("param", "parameter", "arg", "argument") and field[2].strip()
    }
    return text[: found[0].start()].strip(), about


def _google(section: str) -> dict[str, str]:
    """`name (type): what it is`, each indented alike, with its further lines indented more."""
    lines = [line for line in section.splitlines() if line.strip()]
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.startswith((" ", "\t"))), default=0)
    about: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if depth < indent:
            break
        if depth == indent and (found := re.match(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?\s*:\s*(.*)", line.strip())):
            name = found[1]
            about[name] = [found[2]]
        elif name:
            about[name].append(line)
    return {parameter: _joined(said) for parameter, said in about.items()}


def _numpy(section: str) -> dict[str, str]:
    """`name : type` at the margin, with what it is indented under it; `a, b : type` describes both."""
    about: dict[str, list[str]] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith((" ", "\t")):
            names = re.findall(r"\w+", line.partition(":")[0])
            about |= {name: [] for name in names}
        elif line.strip():
            for name in names:
                about[name].append(line)
    return {parameter: _joined(said) for parameter, said in about.items()}


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())
