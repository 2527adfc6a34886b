"""What the host and a program in a box say to each other: lines of JSON that begin with a nonce of the run.

The nonce keeps frames apart from anything else on the stream; it is no secret from the candidate, who shares the
interpreter with the program. So what comes out of its box is only ever a value to be compared, never a verdict.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from typing import Any, cast

from envkit.errors import InfraError
from envkit.sandbox.base import KiB, MiB, Process
from envkit.verify.code.clock import Clock, apart
from envkit.verify.code.programs.codec import DEPTH, NODES

LINE = 32 * MiB
"""The longest line that is read from a box: the codec's text, each character as an escape, and some room."""

ANSWERS = 32 * MiB
"""Bytes that a program may write in all, where it is asked again and again: reading them is the host's time."""


START = 30.0
"""Seconds that an interpreter may take to start, on a machine that is busy."""


class Broken(Exception):
    """The program on the other side ended, ran past its time or talked nonsense; the words say which."""


def new_nonce() -> str:
    return secrets.token_hex(16)


def frame(line: bytes, nonce: str) -> dict[str, Any] | None:
    """The message of one line; None where it is none of this run, or nothing that the programs would say."""
    head, _, body = line.partition(b" ")
    if head != nonce.encode() or len(line) > LINE:
        return None
    if body.count(b"[") + body.count(b"{") > NODES // 2 or body.count(b",") > 2 * NODES:  # they take memory, when read
        return None
    try:
        message: object = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], message) if isinstance(message, dict) else None


def frames(stream: bytes, nonce: str) -> Iterator[dict[str, Any]]:
    """The messages in all that a program wrote, each read when it is asked for: all at once could be large."""
    start = stream.find(_opening(nonce))
    while start >= 0:
        end = stream.find(b"\n", start + 1)
        line = stream[start + 1 :] if end < 0 else stream[start + 1 : end]
        if (message := frame(line, nonce)) is not None:
            yield message
        start = -1 if end < 0 else stream.find(_opening(nonce), end)


def _opening(nonce: str) -> bytes:
    """How each frame begins, also where something else stands in its line before it."""
    return f"\n{nonce} ".encode()


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


class Peer:
    """The host's end of a program that goes on running in a box."""

    def __init__(self, process: Process, nonce: str, clock: Clock, *, budget: int | None = None) -> None:
        """`budget` is how many bytes it may write in all. It has START seconds, until `deadline` is set anew."""
        self.process = process
        self.nonce = nonce
        self.clock = clock
        self.deadline = clock.now() + START
        self.heard = 0
        """Bytes of the last message."""
        self._budget = budget
        self._read = 0
        self._inbox = bytearray()

    async def send(self, line: str) -> None:
        """A line to its stdin; Broken where it does not take it."""
        writing = asyncio.ensure_future(self.process.write(f"{line}\n".encode("ascii")))
        try:
            while not writing.done():
                await asyncio.wait({writing}, timeout=self._left())
                if not writing.done():
                    self._check_time()
            await writing
        except InfraError:
            raise Broken(await self._end()) from None
        finally:
            writing.cancel()

    async def hear(self) -> dict[str, Any]:
        """Its next message; Broken where none comes."""
        while True:
            line = await self._line()
            self.heard = len(line)
            if (message := await apart(len(line), frame, line, self.nonce)) is not None:
                return message

    async def _line(self) -> bytes:
        """The next one that begins as a frame does; what comes before it is dropped unread."""
        opening = _opening(self.nonce)
        while (start := self._inbox.find(opening)) < 0:
            del self._inbox[: -len(opening)]
            await self._more()
        del self._inbox[: start + 1]
        searched = 0
        while (end := self._inbox.find(b"\n", searched)) < 0:
            searched = len(self._inbox)
            if searched > LINE:
                raise Broken("flooded its channel")
            await self._more()
        line = bytes(self._inbox[:end])
        del self._inbox[:end]
        return line

    async def _more(self) -> None:
        data = b""
        while not data:
            try:
                data = await self.process.read(MiB if len(self._inbox) > 64 * KiB else 64 * KiB, within=self._left())
            except TimeoutError:
                self._check_time()
            else:
                if not data:
                    raise Broken(await self._end())
        self._inbox += data
        self._read += len(data)
        if self._budget is not None and self._read > self._budget:
            raise Broken("flooded its channel")
        await asyncio.sleep(0)  # one that always has more to say would never let go of the loop

    def _left(self) -> float:
        return max(0.01, self.deadline - self.clock.now())

    def _check_time(self) -> None:
        """Broken where its time is over by its clock, which may have stood still."""
        if self.clock.now() >= self.deadline:
            raise Broken("ran past its time limit")

    async def _end(self) -> str:
        from envkit.verify.code.verdict import ending

        try:
            result = await self.process.wait(within=1.0)
        except TimeoutError:
            return "closed its channel"
        return "ended by itself" if result.ok else ending(result)


_TAGS = frozenset("fibactszdroumkq")


def is_tree(tree: object) -> bool:
    """Whether this is a value by the codec, of either language: what may be handed on to another box."""
    left = NODES
    layer: list[Any] = [tree]
    for _ in range(3 * DEPTH + 3):
        below: list[Any] = []
        for item in layer:
            match item:
                case None | bool() | str() | int():
                    pass
                case float():
                    if item - item != 0:
                        return False
                case list():
                    below.extend(cast(list[Any], item))
                case dict() if len(cast(dict[str, Any], item)) == 1:
                    tag, inner = next(iter(cast(dict[str, Any], item).items()))
                    if tag not in _TAGS or not isinstance(inner, str | list):
                        return False
                    if isinstance(inner, list):
                        below.extend(cast(list[Any], inner))
                case _:
                    return False
        left -= len(below)
        if left < 0:
            return False
        if not below:
            return True
        layer = below
    return False
