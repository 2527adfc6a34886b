"""`Chat`: one conversation with one model. Every call is a turn on the rollout's trace."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from envkit.clients.base import Client, Completion, Request
from envkit.errors import AnswerTooLong, ContextOverflow, EnvError, EnvkitError, ModelError, Truncated, TruncationReason
from envkit.events import CallEnded, LoopHeld, ToolEnded
from envkit.limits import Deadline, Limits
from envkit.tools import Done, Outcome, Tool, use
from envkit.types import Content, Message, ToolCall

if TYPE_CHECKING:
    from envkit.rollout import Rollout, Spent
    from envkit.trace import Turn

T = TypeVar("T")
HELD_TOO_LONG = 0.05
"""Seconds for which a sync tool or reward may hold the event loop before it is named."""
NO_TOOL = "no such tool"
"""Under which the record counts calls of what was not offered, whatever the model called it."""


class Chat:
    """One conversation of `agent`, spoken for by the model that is bound to `role`.

    `messages` is what the next call sends. It may be edited: a history can be compacted, a message taken back.
    """

    def __init__(
        self, rollout: Rollout[Any], agent: str, role: str, client: Client, *, system: str | None, trainable: bool
    ) -> None:
        self._rollout = weakref.ref(rollout)  # weak, so that a finished rollout is freed without the collector
        self.agent, self.role, self.client, self.trainable = agent, role, client, trainable
        self.messages: list[Message] = [] if system is None else [Message.system(system)]
        self.deadline: Deadline | None = None
        """What stands still while a call of this chat waits, where that is not the rollout's own."""

    @property
    def rollout(self) -> Rollout[Any]:
        """The rollout that this is a conversation of."""
        rollout = self._rollout()
        assert rollout is not None, "a chat is not used beyond its rollout"
        return rollout

    async def generate(
        self, user: Content | None = None, tools: Sequence[Tool | Callable[..., Any]] = (), **sampling: Any
    ) -> Message:
        """Say `user`, if given, and return the model's reply, which also joins `messages`.

        `tools` are offered, not called; `run_tools` does both. `sampling` goes to the endpoint.
        """
        if user is not None:
            self.messages.append(Message.user(user))
        if not self.messages:
            raise EnvError(
                f"the chat of {self.agent!r} is empty: give generate() something to say, or the task a prompt"
            )
        turn = await self.ask(self.messages, [Tool.of(tool).to_wire() for tool in tools], sampling)
        self.messages.append(turn.reply)
        if turn.finish_reason == "length":
            self.cut_short("length")
        return turn.reply

    async def ask(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], sampling: Mapping[str, Any]
    ) -> Turn:
        """One call of the model, recorded: what `generate` and an external program's request have in common.

        `tools` are in their wire form. Truncated, or a ModelError where this is not the policy's role, when no more
        calls are allowed; calls under way count, so that parallel ones cannot pass the limit together.
        """
        rollout = self.rollout
        spent = rollout.spent(self.agent)
        self._stay_within(rollout.limits, spent)
        request = self._request(messages, tools, sampling, call=spent.begun)
        started = time.perf_counter()
        spent.asking += 1
        try:
            completion = await self._complete(request)
        finally:
            spent.asking -= 1
        turn = rollout.record(self, request, completion, seconds=time.perf_counter() - started)
        rollout.emit(CallEnded(rollout.trace, self.agent, turn))
        return turn

    async def run_tools(self, tools: Sequence[Tool | Callable[..., Any]], **sampling: Any) -> Any:
        """Generate and call tools until the model answers without a call; its last reply.

        A tool that raises `Done(value)` ends this at once: then the value.
        """
        offered = [Tool.of(tool) for tool in tools]
        try:
            reply = await self.generate(tools=offered, **sampling)
            while reply.tool_calls:
                await self.call(reply.tool_calls, offered)
                reply = await self.generate(tools=offered, **sampling)
        except Done as done:
            return done.value
        return reply

    async def call(self, calls: Sequence[ToolCall], tools: Sequence[Tool | Callable[..., Any]]) -> None:
        """Make these calls, in parallel where tools are async; each result joins `messages`, in the calls' order."""
        offered = [Tool.of(tool) for tool in tools]
        outcomes = await _together([self._use(call, offered) for call in calls])
        self.messages += [Message.tool(outcome.content, call.id) for call, outcome in zip(calls, outcomes, strict=True)]
        for outcome in outcomes:
            if outcome.done is not None:
                raise outcome.done

    def fork(self) -> Chat:
        """A chat of the same agent that goes on from here by itself."""
        chat = Chat(self.rollout, self.agent, self.role, self.client, system=None, trainable=self.trainable)
        chat.messages = list(self.messages)
        return chat

    def cut_short(self, reason: TruncationReason, cause: Exception | None = None) -> NoReturn:
        """End the episode by this limit: Truncated for the policy, a ModelError for any other role."""
        if self.role == "policy":
            raise Truncated(reason) from cause
        raise ModelError(f"role {self.role!r} (agent {self.agent!r}) was cut short: {reason}") from cause

    def _request(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], sampling: Mapping[str, Any], *, call: int
    ) -> Request:
        rollout = self.rollout
        services = rollout.services
        if self.role == "policy":
            sampling = {**rollout.env.sampling, **sampling, **services.sampling}
        if services.seed is not None:
            sampling = {"seed": rollout.next_seed(self.agent), **sampling}
        return Request(
            messages=tuple(messages),
            tools=tools,
            sampling=sampling,
            tokens=services.tokens and (self.role == "policy" or self.trainable),
            task=rollout.task,
            sample=rollout.trace.sample,
            agent=self.agent,
            call=call,
            deadline=self.deadline or rollout.deadline,
        )

    async def _complete(self, request: Request) -> Completion:
        try:
            return await self.client.complete(request)
        except EnvkitError as error:
            self.rollout.emit(CallEnded(self.rollout.trace, self.agent, error=str(error)))
            if not isinstance(error, ContextOverflow):
                raise
            if request.call == 0 and error.would_fit(request.size()):  # no history has grown: a setting is wrong
                raise AnswerTooLong(error.advice, status=error.status) from error
            self.cut_short("context", error)

    def _stay_within(self, limits: Limits, spent: Spent) -> None:
        if limits.max_turns is not None and spent.begun >= limits.max_turns:
            self.cut_short("max_turns")
        if limits.max_total_tokens is not None and spent.tokens >= limits.max_total_tokens:
            self.cut_short("max_total_tokens")

    async def _use(self, call: ToolCall, tools: Sequence[Tool]) -> Outcome:
        rollout, error = self.rollout, None

        def holding(seconds: float) -> None:
            rollout.emit(LoopHeld(rollout.trace, call.name, seconds))

        started = time.perf_counter()
        try:
            outcome = await use(call, tools, rollout.limits, rollout.deadline, holding)
            error = outcome.error
        except BaseException as ending:
            error = f"{type(ending).__name__}: {str(ending) or 'the episode ended before the tool did'}"
            raise
        finally:
            seconds = time.perf_counter() - started
            rollout.used(call.name if any(tool.name == call.name for tool in tools) else NO_TOOL, seconds, error)
            rollout.emit(ToolEnded(rollout.trace, call.name, seconds, error))
        if outcome.held > HELD_TOO_LONG:
            rollout.emit(LoopHeld(rollout.trace, call.name, outcome.held))
        return outcome


async def _together(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first exception cancels the rest and is raised as it is, not in a group."""
    if len(jobs) == 1:
        return [await jobs[0]]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
