"""Clients without a server: `Scripted` for tests; `Oracle`, `Nop`, `Replay` and `Human` for the command line."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from envkit import exact
from envkit.clients.base import Client, Completion, Request
from envkit.errors import EnvError, ModelError, UsageError
from envkit.terminal import clean, one_line
from envkit.types import Message, ToolCall

if TYPE_CHECKING:
    from envkit.environment import Environment

Reply = str | Message | Completion | Exception
_ids = itertools.count(1)


def call(name: str, /, **arguments: Any) -> Message:
    """An assistant's message that calls one tool."""
    arguments_json = orjson.dumps(arguments).decode()
    return Message.assistant(tool_calls=(ToolCall(id=f"call_{next(_ids)}", name=name, arguments=arguments_json),))


class Scripted(Client):
    """Says these replies in order, or what a function makes of the messages; an exception is raised. For tests.

    model = Scripted([call("divide", a=1, b=0), "I cannot divide."])
    """

    name = "scripted"

    def __init__(self, replies: Iterable[Reply] | Callable[[Sequence[Message]], Reply]) -> None:
        self._answer = replies if callable(replies) else None
        self._replies = iter(()) if callable(replies) else iter(list(replies))

    async def complete(self, request: Request) -> Completion:
        reply = self._answer(request.messages) if self._answer else next(self._replies, None)
        if reply is None:
            raise ModelError("the script has no reply left")
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Completion):
            return reply
        return Completion(Message.assistant(reply) if isinstance(reply, str) else reply)


class Oracle(Client):
    """Says what the environment itself says is right, or what it has a role beside the policy say."""

    name = "oracle"

    def __init__(self, env: Environment[Any], role: str = "policy") -> None:
        self._env, self._role = env, role

    async def complete(self, request: Request) -> Completion:
        if request.task is None:
            raise EnvError("the oracle was asked without a task")
        task, messages = request.task, request.messages
        env, role = self._env, self._role
        reply = env.oracle(task, messages) if role == "policy" else env.stand_in(role, task, messages)
        return Completion(Message.assistant(reply) if isinstance(reply, str) else reply)


class Nop(Client):
    """Says nothing: the floor of every environment."""

    name = "nop"

    async def complete(self, request: Request) -> Completion:
        return Completion(Message.assistant(""))


class Replay(Client):
    """Says what was recorded, by task, sample, agent and call order; what was not recorded is a ModelError.

    Reads rows of `{task_id, sample, response}`, or with `messages` in place of the response, and the
    `rollouts.jsonl` of a run, whose last attempt counts. A task is found by its id, or else by its prompt, where only
    one task had that. Rows that contradict each other are a UsageError: which of them was meant cannot be known.
    """

    def __init__(self, path: str | Path) -> None:
        file = Path(path)
        self.name = f"replay:{file.name}"
        self._replies: dict[tuple[str, int, str], list[Message]] = {}
        self._by_prompt: dict[str, str | None] = {}
        if file.is_dir():
            file /= "rollouts.jsonl"
        digest = hashlib.sha256()
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    digest.update(line)
                    self._read(line, f"{file}:{number}")
        except OSError as error:
            raise UsageError(f"The replay {file} cannot be read: {error.strerror}.") from error
        self._tasks = {task for task, _, _ in self._replies}
        self._fingerprint = f"sha256:{digest.hexdigest()}"

    def about(self) -> dict[str, Any]:
        return {**super().about(), "fingerprint": self._fingerprint}

    async def complete(self, request: Request) -> Completion:
        task = "" if request.task is None else request.task.id
        known = task if task in self._tasks else self._by_prompt.get(_asked(request.messages))
        replies = self._replies.get((known or task, request.sample, request.agent), [])
        if request.call >= len(replies):
            which = f"call {request.call} of agent {request.agent!r} in sample {request.sample}"
            raise ModelError(f"{self.name} has no reply for task {task!r}: {which} was not recorded")
        return Completion(replies[request.call])

    def _read(self, line: bytes, where: str) -> None:
        try:
            row = _row(line)
            if row is None:
                return
            task, sample = str(row["task_id"]), int(row.get("sample", 0))
            if "schema" in row:
                self._read_trace(line, task, sample)
                return
            messages = [Message.model_validate(_plain(message)) for message in row.get("messages") or ()]
            said = [message for message in messages if message.role == "assistant"]
            replies = said or [Message.assistant(row["response"] or "")]
            prompt = row.get("prompt")
        except (LookupError, TypeError, ValueError) as error:
            raise UsageError(f"{where} is no row of a replay: {one_line(str(error), 200)}") from error
        if self._replies.setdefault((task, sample, "policy"), replies) != replies:
            raise UsageError(
                f"{where} has another reply for task {one_line(task)!r}, sample {sample} than a row before it: "
                "keep the rows of one run."
            )
        if isinstance(prompt, str):
            self._remember(prompt, task)

    def _read_trace(self, line: bytes, task: str, sample: int) -> None:
        from envkit.trace import Trace

        trace = Trace.from_json(line)
        for agent in {turn.agent for turn in trace.turns}:
            self._replies[task, sample, agent] = trace.replies(agent)
        if trace.turns:
            self._remember(_asked(trace.prompt(0)), task)

    def _remember(self, prompt: str, task: str) -> None:
        known = self._by_prompt.setdefault(prompt, task)
        if known != task:
            self._by_prompt[prompt] = None


class Human(Client):
    """Asks whoever sits at the terminal: messages on standard error, the reply from standard input."""

    name = "human"

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._typed: Future[str] | None = None

    async def complete(self, request: Request) -> Completion:
        async with self._turn:
            for message in request.messages:
                print(f"[{message.role}] {clean(message.text)}", file=sys.stderr)
            print("your reply> ", end="", file=sys.stderr, flush=True)
            line = await self._line()
        if not line:
            raise ModelError("standard input ended: there is nobody to reply")
        return Completion(Message.assistant(line.rstrip("\n")))

    async def _line(self) -> str:
        """The next line typed. One that a cancelled call still waits for belongs to the call after it."""
        if self._typed is None:
            self._typed = _read_in_background()
        line = await asyncio.shield(asyncio.wrap_future(self._typed))
        self._typed = None
        return line


def _read_in_background() -> Future[str]:
    """A line of standard input, read in a daemon thread: one that waits for a person must not keep a process alive."""
    typed: Future[str] = Future()

    def read() -> None:
        try:
            typed.set_result(sys.stdin.readline())
        except (OSError, ValueError) as error:  # closed, or no UTF-8
            typed.set_exception(ModelError(f"standard input cannot be read: {error}"))

    threading.Thread(target=read, daemon=True, name="envkit-human").start()
    return typed


def _row(line: bytes) -> dict[str, Any] | None:
    """The row on this line; None for a last line that was torn as its writer was killed, and for an empty one."""
    try:
        return exact.loads(line) if line.strip() else None
    except ValueError:
        if line.endswith(b"\n"):
            raise
        return None


def _asked(messages: Sequence[Message]) -> str:
    return next((message.text for message in messages if message.role == "user"), "")


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message of the OpenAI format in the form of ours."""
    calls = cast("list[dict[str, Any]]", message.get("tool_calls") or [])
    functions = [{"id": c.get("id") or f"call_{i}", **c.get("function", c)} for i, c in enumerate(calls)]
    kept = {name: message[name] for name in ("role", "tool_call_id", "name") if message.get(name) is not None}
    named = [{"id": f["id"], "name": f["name"], "arguments": _as_text(f["arguments"])} for f in functions]
    return {**kept, "content": message.get("content") or "", "tool_calls": named}


def _as_text(arguments: Any) -> str:
    """A call's arguments byte for byte; some records have them as the object that they are JSON of."""
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
