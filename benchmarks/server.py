"""A server of the OpenAI chat protocol that costs little: what answers every client of the benchmark alike.

`python server.py ROWS.jsonl` prints its port, then serves until it is killed. The base URL says how it behaves:

    http://127.0.0.1:PORT/MODE/LATENCY/v1     MODE: right, wrong, calls-N; LATENCY: milliseconds before each answer

`right` boxes the row's own answer. `wrong` boxes an answer of the same form with a number that no other reply has, so
no reply is right and none repeats. A reply is the row's worked solution, filled up to `REPLY_LENGTH` characters.
`calls-N` calls the first tool that it is offered N times, with the number of the call as its one argument, then says
that it is done.
`GET /stats` gives what was seen since the last `GET /stats`: requests, the most in flight at once, and the seconds
from the first request to the last answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPLY_LENGTH = 1500
"""Characters of a reply, at least: what an instruction-tuned model writes on a problem of MATH-500."""

MODEL = "bench"
_FILLER = "Let us check this step once more before we go on, so that no sign and no factor is lost on the way. "
_SENTINEL = "@@boxed@@"


@dataclass
class Stats:
    """What the server has seen. `seconds` runs from the first request to the last answer."""

    requests: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    seconds: float = 0.0
    _first: float = 0.0

    def begin(self) -> None:
        if not self.requests:
            self._first = time.perf_counter()
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def end(self) -> None:
        self.in_flight -= 1
        self.seconds = time.perf_counter() - self._first

    def __str__(self) -> str:
        seen = {"requests": self.requests, "max_in_flight": self.max_in_flight, "seconds": self.seconds}
        return json.dumps(seen)


class Replies:
    """The HTTP response to each known problem, made before the first request."""

    def __init__(self, rows: Path) -> None:
        self._parts: dict[str, tuple[str, str, str]] = {}
        self._right: dict[str, bytes] = {}
        self._numbers = itertools.count(10_007)
        for line in rows.read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            problem, answer = row["problem"].strip(), row["answer"]
            before, after = _completion(_said(row["solution"]), problem).split(json.dumps(_SENTINEL)[1:-1])
            self._parts[problem] = (before, after, answer)
            self._right[problem] = _response(before + json.dumps(answer)[1:-1] + after)

    def to(self, problem: str, mode: str) -> bytes:
        """The response; KeyError for a problem that is in no row."""
        if mode == "right":
            return self._right[problem]
        before, after, answer = self._parts[problem]
        return _response(before + json.dumps(_otherwise(answer, next(self._numbers)))[1:-1] + after)


def _said(solution: str) -> str:
    """A reply's text with a mark where its boxed answer goes; only the last line has a box."""
    text = solution.replace("\\boxed", "").strip() + "\n\n"
    text += _FILLER * max(0, -(-(REPLY_LENGTH - len(text)) // len(_FILLER)))
    return f"{text}\n\nSo we have found it:\n\n$$\\boxed{{{_SENTINEL}}}$$"


def _otherwise(answer: str, number: int) -> str:
    """A wrong answer of the same form: its first number replaced, or the number added where there is none."""
    wrong, replaced = re.subn(r"\d+", str(number), answer, count=1)
    return wrong if replaced else f"{answer}+{number}"


def called(asked: dict[str, Any], calls: int) -> bytes:
    """The next call of the first tool, or that it is done, as the conversation has `calls` of them."""
    made = sum(message["role"] == "assistant" for message in asked["messages"])
    if made >= calls:
        return _response(_body({"role": "assistant", "content": "It is done."}, "stop", 400 * made, 4))
    function = asked["tools"][0]["function"]
    [parameter] = function["parameters"]["properties"]
    call = {"name": function["name"], "arguments": json.dumps({parameter: made})}
    message: dict[str, Any] = {"role": "assistant", "content": None}
    message["tool_calls"] = [{"id": f"call_{made}", "type": "function", "function": call}]
    return _response(_body(message, "tool_calls", 400 * made, 20))


def _completion(text: str, problem: str) -> str:
    return _body({"role": "assistant", "content": text}, "stop", len(problem) // 4, len(text) // 4)


def _body(message: dict[str, Any], finish_reason: str, prompt: int, completion: int) -> str:
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": MODEL,
            "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }
    )


def _response(body: str, status: str = "200 OK") -> bytes:
    content = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Connection(asyncio.Protocol):
    """One kept-alive connection: a request is answered before the next is read."""

    def __init__(self, replies: Replies, stats: list[Stats]) -> None:
        self._replies, self._stats = replies, stats
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        parts = path.strip("/").split("/")
        if parts == ["stats"]:
            self._send(_response(str(self._stats[0])))
            self._stats[0] = Stats()
        elif parts[-1] == "models":
            self._send(_response(json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]})))
        elif parts[-1] == "completions":
            self._complete(parts[0], int(parts[1]), body)
        else:
            self._send(_response('{"error": "no such path"}', "404 Not Found"))

    def _complete(self, mode: str, latency: int, body: bytes) -> None:
        stats = self._stats[0]
        stats.begin()
        asked = json.loads(body)
        if mode.startswith("calls-"):
            response = called(asked, int(mode.removeprefix("calls-")))
        else:
            response = self._said(asked, mode)
        if latency:
            asyncio.get_running_loop().call_later(latency / 1000, self._finish, response, stats)
        else:
            self._finish(response, stats)

    def _said(self, asked: dict[str, Any], mode: str) -> bytes:
        said = asked["messages"][-1]["content"]
        problem = said if isinstance(said, str) else "".join(part["text"] for part in said)
        try:
            return self._replies.to(problem.strip(), mode)
        except KeyError:
            return _response('{"error": "this problem is in no row"}', "400 Bad Request")

    def _finish(self, response: bytes, stats: Stats) -> None:
        stats.end()
        self._send(response)

    def _send(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)


async def serve(rows: Path) -> None:
    """Serve on a free port of the loopback until cancelled; the port is printed first."""
    replies, stats = Replies(rows), [Stats()]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(replies, stats), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
