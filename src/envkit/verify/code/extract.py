"""The program in a model's reply: a fenced block, found line by line in linear time, with its offsets in the reply."""

from __future__ import annotations

import re
from dataclasses import dataclass

LANGUAGES = {
    "python": frozenset({"python", "py", "python3", "py3", "python2"}),
    "javascript": frozenset({"javascript", "js", "node", "nodejs", "mjs", "cjs"}),
    "c": frozenset({"c", "c99", "c11"}),
    "cpp": frozenset({"cpp", "c++", "cc", "cxx", "c++17", "cpp17", "c++20", "cpp20"}),
    "bash": frozenset({"bash", "sh", "shell", "zsh"}),
}
"""What a fence may call each language that the judges run."""

_FENCE = re.compile(r"[ \t]{0,24}(?:[-*+>][ \t]{1,4}|\d{1,3}[.)][ \t]{1,4}){0,3}(`{3,}|~{3,})([^\n`]{0,200})$")


@dataclass(frozen=True, slots=True)
class Program:
    """A program as it stood in a reply, without the indentation of its fence; `span` are its offsets there.

    `span` is None for a program that came from elsewhere.
    """

    source: str
    language: str = "python"
    span: tuple[int, int] | None = None


@dataclass(slots=True)
class _Block:
    tag: str
    lines: list[str]
    start: int
    end: int


def extract(reply: str, *, language: str = "python", must_define: str | None = None) -> Program | None:
    """The program in a reply, None where there is no fenced block after the thinking.

    `must_define` is the entry point, "solve" or "Solution().solve". In this order: the last block of the language that
    defines it, the last block of any kind that does, the last block of the language, the last block that names no
    language, the last block. A fence that is never closed reaches to the end.
    """
    start = _after_thinking(reply)
    blocks = [] if start is None else _blocks(reply, start)
    if not blocks:
        return None
    names = LANGUAGES.get(language, frozenset({language}))
    tagged = [block for block in blocks if block.tag in names]
    defining = [block for block in blocks if must_define and _defines(block, must_define, language)]
    untagged = [block for block in blocks if not block.tag]
    both = [block for block in defining if block in tagged]
    chosen = next(found for found in (both, defining, tagged, untagged, blocks) if found)[-1]
    return Program("".join(chosen.lines), language, (chosen.start, chosen.end))


def as_program(source: Program | str, language: str) -> Program:
    """What is to be judged, whichever way it was passed."""
    return source if isinstance(source, Program) else Program(source, language)


def _after_thinking(reply: str) -> int | None:
    """Where the answer begins; None where the reply is still thinking at its end."""
    closed = reply.rfind("</think>")
    if reply.find("<think>", closed + 1) >= 0 and _thinks_at(reply, closed):
        return None
    return 0 if closed < 0 else closed + len("</think>")


def _thinks_at(reply: str, closed: int) -> bool:
    """Whether a <think> that opens what is left does so as a tag, and not somewhere in a program."""
    rest = reply[closed + len("</think>") :] if closed >= 0 else reply
    return rest.lstrip().startswith("<think>")


def _blocks(reply: str, start: int) -> list[_Block]:
    blocks: list[_Block] = []
    current: _Block | None = None
    fence, indent, at = "", 0, start
    for line in reply[start:].splitlines(keepends=True) if start else reply.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        found = _FENCE.match(bare)
        if found and current is not None and _closes(found, fence, indent, bare):
            blocks.append(current)
            current = None
            if found[2].strip() and found[1][0] == fence[0]:  # the fence before was never closed: this opens another
                current = _Block(_tag(found[2]), [], at + len(line), at + len(line))
                fence, indent = found[1], found.start(1)
        elif found and current is None:
            current = _Block(_tag(found[2]), [], at + len(line), at + len(line))
            fence, indent = found[1], found.start(1)
        elif current is not None:
            current.lines.append(_outdented(line, indent))
            current.end = at + len(line)
        at += len(line)
    if current is not None:
        blocks.append(current)
    return [block for block in blocks if "".join(block.lines).strip()]


def _closes(found: re.Match[str], fence: str, indent: int, line: str) -> bool:
    """Whether a line that looks like a fence ends the open block, by closing it or by opening the next.

    One that stands deeper than the block's own fence is text of the program: a docstring with an example.
    """
    if found[1][0] != fence[0] or len(found[1]) < len(fence):
        return False
    if found[2].strip():
        return found.start(1) <= indent and _tag(found[2]) in _KNOWN
    return not line[: found.start(1)].strip() and found.start(1) <= indent + 3


_KNOWN = frozenset[str]().union(*LANGUAGES.values())


def _tag(info: str) -> str:
    """The language that a fence names: its first word, in lower case, without attributes."""
    word = info.strip().lstrip("{.").partition(" ")[0]
    return word.partition("{")[0].partition(":")[0].partition(",")[0].rstrip("}").lower()


def _outdented(line: str, indent: int) -> str:
    width = len(line) - len(line.lstrip(" \t"))
    return line[min(indent, width) :]


def _defines(block: _Block, entry: str, language: str) -> bool:
    names = [part.removesuffix("()") for part in entry.split(".")]
    return all(_defines_name(block.lines, re.escape(name), language) for name in names)


def _defines_name(lines: list[str], name: str, language: str) -> bool:
    match language:
        case "python":
            pattern = re.compile(rf"\s*(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b|{name}\b[^=\n]{{0,200}}=[^=]")
        case "javascript":
            pattern = re.compile(
                rf"\s*(?:(?:export|default|async)[ \t]+){{0,3}}(?:function\*?|class|const|let|var)[ \t]+{name}\b"
                rf"|\s*{name}[ \t]*[(:=]"
            )
        case _:
            pattern = re.compile(rf"[^\n(]{{0,200}}\b{name}[ \t]*[({{=]")
    return any(pattern.match(line[:400]) for line in lines)
