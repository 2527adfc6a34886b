"""`Gateway`: a rollout's own endpoint while an agent program runs, and `serve`, the block for which it stands.

What a program asks becomes a turn of the rollout under the run's model, sampling and limits. What ends the episode
is told to the program as an error, and raised when the block is left.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

from envkit.errors import AnswerTooLong, ContextOverflow, EnvkitError, Truncated, UsageError
from envkit.gateway.asked import Answered, Asked, Refused
from envkit.gateway.memory import Memory
from envkit.types import Message

if TYPE_CHECKING:
    from envkit.chat import Chat
    from envkit.sandbox.base import Sandbox
    from envkit.trace import Turn

GRACE_SECONDS = 60.0
"""For a program to end by itself once its calls are refused: to write its files, not to try again for ever."""
CLOSE_SECONDS = 5.0

CAPS = frozenset({"max_tokens", "max_completion_tokens"})
"""Two names of one thing: where the run says one of them, the program says neither."""


@dataclass(slots=True)
class Call:
    """A call under way or over. `retries` is how often the program has sent it again, `key` its mark of it.

    It is kept for another try as long as the rollout runs, and so holds nothing that grows with the conversation:
    of what was asked, only how the answer is wanted.
    """

    asked: Asked
    id: str
    created: int
    """Unix seconds."""
    task: asyncio.Task[Turn]
    key: str | None = None
    retries: int = 0

    def answered(self) -> Answered:
        """The answer; Refused where there is none."""
        if self.task.cancelled():
            raise closed()
        return Answered(self.asked, self.task.result(), self.id, self.created)


def closed() -> Refused:
    """What a straggler is told."""
    return Refused(410, "This endpoint is closed: the episode that it was made for is over.", "closed")


class Gateway:
    """An endpoint of one rollout, for programs that bring their own loop.

    `url` is its OpenAI base URL as this machine reaches it, `key` its key, `model` the name of the model behind it,
    whatever name a program asks for. `env()` has all this as programs read it, for the place where they run.
    """

    def __init__(self, chat: Chat) -> None:
        self.key = f"sk-envkit-{secrets.token_urlsafe(24)}"
        self.model = chat.client.name or "model"
        self.port = 0
        self.inside: int | None = None
        """The port at which the rollout's box reaches it."""
        self.ending: BaseException | None = None
        """What ended the episode."""
        self.sealed = False
        self.grace = asyncio.timeout(None)
        self.chat = chat
        self._memory = Memory()
        self._calls: set[asyncio.Task[Turn]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def env(self) -> dict[str, str]:
        """Environment variables for a program in the rollout's box, or on this machine where there is none."""
        base = f"http://127.0.0.1:{self.inside or self.port}"
        proxied = "" if self.inside else os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))
        unproxied = ",".join(filter(None, [proxied, "127.0.0.1"]))
        return {
            "OPENAI_BASE_URL": f"{base}/v1",
            "OPENAI_API_BASE": f"{base}/v1",
            "OPENAI_API_KEY": self.key,
            "OPENAI_MODEL": self.model,
            "ANTHROPIC_BASE_URL": base,
            "ANTHROPIC_API_KEY": self.key,
            "ANTHROPIC_MODEL": self.model,
            "NO_PROXY": unproxied,
            "no_proxy": unproxied,
        }

    def call(self, asked: Asked) -> Call:
        """Have it asked and recorded, whether or not anybody waits for the answer; Refused once nothing is any more."""
        if self.sealed:
            raise closed()
        if self.ending is not None:
            raise self.refused()
        messages = [*self._continued(asked.previous), *asked.messages]
        asked, answer = replace(asked, model=asked.model or self.model), uuid.uuid4().hex
        task = asyncio.get_running_loop().create_task(self._ask(asked, messages, answer))
        self._calls.add(task)
        task.add_done_callback(self._over)
        return Call(replace(asked, messages=(), tools=()), answer, int(time.time()), task)

    def end(self, why: BaseException) -> None:
        """No more calls: the first reason counts, and the program has a while to leave."""
        if self.ending is None:
            self.ending = why
            if not self.sealed:
                self.grace.reschedule(asyncio.get_running_loop().time() + GRACE_SECONDS)

    def refused(self) -> Refused:
        """What a program is told once its episode has ended: as of a key that holds no more, since every program and
        library gives up at a 401; many try again for minutes at a 403 or a 429."""
        if isinstance(self.ending, Truncated):
            why = self.ending.reason
            return Refused(401, f"No more calls: this episode is over, its limit ({why}) is reached.", why)
        return Refused(401, "No more calls: this episode is over, its model failed.", "model_failed")

    def seal(self) -> None:
        """Answer nothing and record nothing from now on."""
        self.sealed = True
        for call in self._calls:
            call.cancel()

    async def emptied(self) -> None:
        """Wait until the calls that were under way are gone, and forget what was said."""
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._memory = Memory()

    def _over(self, task: asyncio.Task[Turn]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # asked for, also where the program has hung up and nobody else will

    async def _ask(self, asked: Asked, messages: list[Message], answer: str) -> Turn:
        """One call, as a turn; Refused with what the program is told where there is none."""
        prompt = self._memory.restored(_instructed(asked.instructions, messages))
        sampling = {name: value for name, value in asked.sampling.items() if name not in self._imposed}
        try:
            try:
                turn = await self.chat.ask(prompt, asked.tools, sampling)
            except (Truncated, AnswerTooLong) as cut:
                too_long = isinstance(cut, AnswerTooLong) or isinstance(cut.__cause__, ContextOverflow)
                if not (too_long and CAPS & sampling.keys()):
                    raise
                # programs ask for as many tokens as their usual model can write: more than this one's window
                sampling = {name: value for name, value in sampling.items() if name not in CAPS}
                turn = await self.chat.ask(prompt, asked.tools, sampling)
            if turn.finish_reason == "length" and not (CAPS & sampling.keys()):
                self._cut_off()
        except Truncated as cut:
            self.end(cut)
            if isinstance(cut.__cause__, ContextOverflow):
                told = "This model's maximum context length is exceeded: the prompt is too long."
                raise Refused(400, told, "context_length_exceeded") from None
            raise self.refused() from None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the block is left
            self.end(error)
            raise Refused(502, "The model could not be asked.", "model_failed") from None
        self._memory.keep(prompt, turn.reply)
        if asked.continued:
            self._memory.keep_conversation(f"resp_{answer}", [*messages, turn.reply])
        return turn

    def _cut_off(self) -> None:
        """The answer reached the run's own cap: it is given, and is the last."""
        try:
            self.chat.cut_short("length")
        except (Truncated, EnvkitError) as cut:
            self.end(cut)

    def _continued(self, previous: str | None) -> Sequence[Message]:
        if previous is None:
            return ()
        known = self._memory.conversation(previous)
        if known is None:
            told = f"Previous response with id {previous[:100]!r} not found: this rollout has given none of that id."
            raise Refused(400, told, "previous_response_not_found")
        return known

    @cached_property
    def _imposed(self) -> set[str]:
        """The fields of which the run speaks, or the endpoint: not the program's to say."""
        rollout, about = self.chat.rollout, self.chat.client.about()
        said: set[str] = {*about.get("sampling", ()), *about.get("extra_body", ())}
        if self.chat.role == "policy":
            said |= rollout.env.sampling.keys() | rollout.services.sampling.keys()
        if rollout.services.seed is not None:
            said.add("seed")
        return said | CAPS if said & CAPS else said


@asynccontextmanager
async def serve(chat: Chat, box: Sandbox | None) -> AsyncGenerator[Gateway]:
    """The gateway for this chat's agent, reachable in the box if one is given.

    Once the block is left nothing more is recorded, and what ended the episode meanwhile is raised: Truncated for a
    limit, ModelError where the model failed.
    """
    from envkit.gateway.http import Server
    from envkit.sandbox.pool import outlast

    if box is not None and box.spec.network == "none":
        raise UsageError(
            "A program in the box could not reach the gateway, since the box has no network: declare "
            "SandboxSpec(network='loopback'), or say serve(inside=False) for a program that runs on this machine."
        )
    gateway = Gateway(chat)
    server = Server(gateway)
    raised: BaseException | None = None
    try:
        gateway.port = await server.start()
        async with gateway.grace, AsyncExitStack() as stack:
            if box is not None:
                from envkit.sandbox.tunnel import tunnel

                gateway.inside = await stack.enter_async_context(tunnel(box, "127.0.0.1", gateway.port))
            try:
                yield gateway
            finally:
                gateway.seal()
    except BaseException as error:
        raised = error
        raise
    finally:
        gateway.seal()
        await outlast(asyncio.ensure_future(server.close()), CLOSE_SECONDS)
        if (why := _deciding(gateway, raised)) is not None:
            raise why


def _deciding(gateway: Gateway, raised: BaseException | None) -> BaseException | None:
    """What ended the episode, where that says more than what the block itself raised: a failure before a limit, both
    before what an environment makes of a program that ended badly, a cancellation from outside before all."""
    ending = gateway.ending
    if isinstance(raised, asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit):
        deadline = gateway.chat.rollout.deadline
        return ending if deadline is not None and deadline.scope.expired() else None
    if isinstance(ending, Truncated) and _ours(raised):
        return None
    return ending


def _ours(raised: BaseException | None) -> bool:
    if isinstance(raised, BaseExceptionGroup):
        return any(_ours(part) for part in cast("BaseExceptionGroup[BaseException]", raised).exceptions)
    return isinstance(raised, EnvkitError)


def _instructed(instructions: str | None, messages: list[Message]) -> list[Message]:
    """The messages after their instructions, as chat templates know it: one system message, at the head. There the
    program's own are one with the instructions, and anywhere else they are a user's."""
    if instructions is None:
        return messages
    head = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    system = "\n\n".join(filter(None, [instructions, *(message.text for message in messages[:head])]))
    rest = [Message.user(m.content) if m.role == "system" else m for m in messages[head:]]
    return [Message.system(system), *rest] if system else rest
