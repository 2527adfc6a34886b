"""Ready tools over a box, for `chat.run_tools`: a shell, a Python that keeps its names, an editor, a reader.

    await rollout.chat.run_tools([shell(rollout.sandbox), edit(rollout.sandbox)])

What a command does wrong is text for the model. A box that fails is an InfraError, and never the model's mistake.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from envkit.errors import InfraError
from envkit.sandbox.base import ExecLimits, ExecResult, KiB, MiB, Process, Sandbox

SESSION = Path(__file__).with_name("python_session.py")
KEPT = 32 * KiB
"""Bytes of what a piece of Python printed that are kept from its beginning, and from its end."""
MAX_FILE = MiB
"""Bytes of a file that can be edited or read."""
MAX_LINES = 2000
"""Lines of a file that are shown at once."""
GONE_WITHIN = 5.0
"""Seconds that a program which reads no more may take to be gone."""


def shell(box: Sandbox, *, timeout: float = 60.0) -> Callable[[str], Awaitable[str]]:
    """The tool `shell(command)`: bash in the box's folder. `timeout` is seconds of one command."""
    limits = _within(box.spec.limits, timeout)

    async def shell(command: str) -> str:
        """Run a command with bash and return what it printed.

        Files stay from one call to the next; the folder, variables and background processes do not.

        Args:
            command: The command, of one or more lines.
        """
        result = await box.exec(["bash", "-c", f"exec 2>&1\n{command}"], limits=limits)
        return "\n".join(part for part in (_text(result.stdout + result.stderr), _end(result, timeout)) if part)

    return shell


def python(box: Sandbox, *, timeout: float = 60.0) -> Callable[[str], Awaitable[str]]:
    """The tool `python(code)`: one interpreter in the box, which keeps its names. `timeout` is seconds of one call."""
    session = _Session(box, timeout)

    async def python(code: str) -> str:
        """Run Python code and return what it printed, with the value of a last expression.

        Variables, functions and imports stay from one call to the next.

        Args:
            code: The code, of one or more lines.
        """
        return await session.run(code)

    return python


def edit(box: Sandbox) -> Callable[[str, str, str], Awaitable[str]]:
    """The tool `edit(path, old, new)`: replace a text that occurs once in a file, or make a new one."""

    async def edit(path: str, old: str, new: str) -> str:
        """Replace a piece of a file by another.

        Args:
            path: The file.
            old: The piece as it stands there, which must occur exactly once; empty to make a new file.
            new: What takes its place.
        """
        if not old:
            return await _make(box, path, new)
        text = await _read(box, path)
        count = text.count(old)
        if count != 1:
            found = "does not occur" if count == 0 else f"occurs {count} times"
            raise ValueError(f"`old` {found} in {path}, where it must occur exactly once. Nothing was changed.")
        await box.write(path, text.replace(old, new).encode("utf-8", "surrogatepass"), mode=await _mode(box, path))
        return f"{path} was edited."

    return edit


def read_file(box: Sandbox) -> Callable[..., Awaitable[str]]:
    """The tool `read_file(path, start, end)`: the numbered lines of a file."""

    async def read_file(path: str, start: int = 1, end: int | None = None) -> str:
        """Read a text file, with its lines numbered from 1.

        Args:
            path: The file.
            start: The first line that is shown.
            end: The last one; without it, the end of the file.
        """
        lines = (await _read(box, path)).splitlines()
        first, last = max(1, start), len(lines) if end is None else min(end, len(lines))
        if first > last:
            raise ValueError(f"{path} has {len(lines)} lines: there are none from {start} to {end or 'its end'}.")
        shown = lines[first - 1 : min(last, first - 1 + MAX_LINES)]
        numbered = [f"{number:6}  {line}" for number, line in enumerate(shown, first)]
        left = last - first + 1 - len(shown)
        return "\n".join([*numbered, f"[{left} more lines up to {last}]"] if left else numbered)

    return read_file


class _Session:
    """The interpreter behind `python`. One that ended is begun anew, and the model is told that its names are gone."""

    def __init__(self, box: Sandbox, timeout: float) -> None:
        self._box, self._timeout = box, timeout
        self._process: Process | None = None
        self._turn = asyncio.Lock()  # calls of one reply are made together

    async def run(self, code: str) -> str:
        async with self._turn:
            mark = secrets.token_hex(16).encode()
            process = await self._given(mark, code.encode("utf-8", "surrogatepass"))
            try:
                said, end = await self._until(process, mark)
            except BaseException:  # cancelled between code and mark: nobody could tell the next answer from this one
                self._process = None
                await process.kill()
                raise
            if end == "done":
                return _text(said)
            self._process = None
            await process.kill()
            why = f"did not finish in {self._timeout:g} s" if end == "late" else "ended the interpreter"
            said = (await process.wait(within=GONE_WITHIN)).stdout[:KEPT] if end == "over" and not said else said
            return f"{_text(said)}\n[The code {why}. A new one was begun: variables and imports are gone.]".lstrip()

    async def _given(self, mark: bytes, source: bytes) -> Process:
        """The interpreter, with this piece on its way; a new one where the old one ended since."""
        piece = b"%s %d\n%s" % (mark, len(source), source)
        if self._process is not None:
            try:
                await self._process.write(piece)
                return self._process
            except InfraError:
                await self._process.wait(within=GONE_WITHIN)  # raises where it is the box that failed
                self._process = None
        self._process = await self._begun()
        await self._process.write(piece)
        return self._process

    async def _begun(self) -> Process:
        spec = self._box.spec
        limits = spec.limits.model_copy(update={"wall": spec.lifetime, "cpu": spec.lifetime, "output": 4 * KEPT})
        await self._box.write("/tmp/python_session.py", SESSION.read_bytes())
        env = {"PYTHONIOENCODING": "utf-8:backslashreplace"}
        return await self._box.spawn(["python3", "-u", "/tmp/python_session.py"], env=env, limits=limits)

    async def _until(self, process: Process, mark: bytes) -> tuple[bytes, Literal["done", "late", "over"]]:
        """(what was written before the mark, its middle left out where it is long; how that ended)."""
        said, left_out = bytearray(), 0
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while True:
            try:
                part = await process.read(within=max(0.0, deadline - clock()))
            except TimeoutError:
                return _shortened(said, left_out), "late"
            if not part:
                return _shortened(said, left_out), "over"
            begin = max(0, len(said) - len(mark) - 2)
            said += part
            at = said.find(b"\n%s\n" % mark, begin)
            if at >= 0:
                return _shortened(said[:at], left_out), "done"
            if len(said) > 4 * KEPT:
                left_out += len(said) - 2 * KEPT
                del said[KEPT:-KEPT]


def _shortened(said: bytearray, left_out: int) -> bytes:
    if not left_out:
        return bytes(said)
    return b"%s\n[... %d bytes left out ...]\n%s" % (said[:KEPT], left_out, said[KEPT:])


def _within(limits: ExecLimits, seconds: float) -> ExecLimits:
    return limits.model_copy(update={"wall": seconds, "cpu": max(limits.cpu, seconds)})


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace").rstrip("\n")


def _end(result: ExecResult, timeout: float) -> str:
    """How a command ended, for the model; "" where it ended well."""
    match result.reason:
        case "exit":
            return f"[exit code {result.code}]" if result.code else ""
        case "timeout":
            return f"[The command was stopped, with all that it had started: it did not finish in {timeout:g} s.]"
        case "memory":
            return "[The command was stopped: it used more memory than the box has.]"
        case "output":
            return "[The command was stopped: it wrote more than is kept of its output.]"
        case "killed":
            return "[The command was killed.]"


async def _make(box: Sandbox, path: str, text: str) -> str:
    try:
        await box.read(path, 1)
    except FileNotFoundError:
        await box.write(path, text.encode("utf-8", "surrogatepass"))
        return f"{path} was made."
    except ValueError:  # longer than one byte
        pass
    raise ValueError(f"{path} is there already: say in `old` which piece of it is to be replaced.")


async def _read(box: Sandbox, path: str) -> str:
    data = await box.read(path, MAX_FILE)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8.") from None


async def _mode(box: Sandbox, path: str) -> int:
    """The file's permissions, which a new text does not change."""
    told = await box.exec(["stat", "-c", "%a", "--", path])
    return int(told.stdout, 8) & 0o777 if told.ok else 0o644
