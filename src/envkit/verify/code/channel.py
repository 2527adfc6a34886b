"""What the host and a program in a box say to each other: lines of JSON that begin with a nonce of the run.

The nonce keeps frames apart from anything else on the stream; it is no secret from the candidate, who shares the
interpreter with the program. So what comes out of its box is only ever a value to be compared, never a verdict.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any, cast

from envkit.errors import InfraError
from envkit.sandbox.base import KiB, MiB, Process
from envkit.verify.code.programs.codec import DEPTH, NODES

LINE = 32 * MiB
"""The longest line that is read from a box: the codec's text, each character as an escape, and some room."""

IGNORED = 4 * MiB
"""Bytes that are no frames after which a program is taken to flood the stream."""


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
    for line in io.BytesIO(stream):
        if (message := frame(line.rstrip(b"\n"), nonce)) is not None:
            yield message


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


class Peer:
    """The host's end of a program that goes on running in a box."""

    def __init__(self, process: Process, nonce: str, deadline: float) -> None:
        """`deadline` is by `time.monotonic`."""
        self.process = process
        self.nonce = nonce
        self.deadline = deadline
        self._inbox = bytearray()
        self._searched = 0
        self._ignored = 0

    async def send(self, *lines: str) -> None:
        """Lines to its stdin; Broken where it does not take them."""
        data = "".join(f"{line}\n" for line in lines).encode("ascii")
        try:
            async with asyncio.timeout(self._left()):
                await self.process.write(data)
        except InfraError:
            raise Broken(await self._end()) from None
        except TimeoutError:
            raise Broken("ran past its time limit") from None

    async def hear(self) -> dict[str, Any]:
        """Its next message; Broken where none comes."""
        while True:
            end = self._inbox.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._inbox)
                await self._more()
                continue
            line = bytes(self._inbox[:end])
            del self._inbox[: end + 1]
            self._searched = 0
            if (message := frame(line, self.nonce)) is not None:
                return message
            self._ignored += end
            if self._ignored > IGNORED:
                raise Broken("flooded its channel")

    async def _more(self) -> None:
        seen = len(self._inbox)
        if seen > LINE:
            raise Broken("flooded its channel")
        try:
            data = await self.process.read(MiB if seen > 64 * KiB else 64 * KiB, within=self._left())
        except TimeoutError:
            raise Broken("ran past its time limit") from None
        if not data:
            raise Broken(await self._end())
        self._inbox += data

    def _left(self) -> float:
        return max(0.01, self.deadline - time.monotonic())

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
