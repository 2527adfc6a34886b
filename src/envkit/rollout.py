"""`Rollout`: one live attempt at a task, as an environment's `run` and its rewards see it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from envkit.chat import HELD_TOO_LONG, Chat
from envkit.clients.base import Client, Completion, Request
from envkit.dataset import TaskT
from envkit.errors import EnvError, ModelError
from envkit.events import Event, Listener, LoopHeld
from envkit.limits import Deadline, Limits
from envkit.lineage import Lineage
from envkit.trace import Tokens, ToolUse, Trace, Turn, conversation
from envkit.types import Message

if TYPE_CHECKING:
    from envkit.environment import Environment
    from envkit.gateway.gateway import Gateway
    from envkit.sandbox.base import Sandbox, SandboxSpec
    from envkit.sandbox.lent import RolloutBoxes
    from envkit.sandbox.pool import Boxes

POLICY = "policy"
_UNUSED = ToolUse()


@dataclass(frozen=True, slots=True)
class Services:
    """What a rollout stands on: a client for each role, and what the command line or a trainer decided.

    `sampling` is for the policy and wins over the environment's. With a `seed` each call sends one of its own, made
    from it. `tokens` asks for token ids and logprobs. `boxes` is where sandboxes come from.
    """

    models: Mapping[str, Client]
    limits: Limits | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int | None = None
    tokens: bool = False
    listener: Listener | None = None
    boxes: Boxes | None = None

    @classmethod
    def of(cls, models: Services | Client | Mapping[str, Client]) -> Services:
        """The services of a bare client (the policy's) or of one client a role."""
        if isinstance(models, Services):
            return models
        return cls({POLICY: models} if isinstance(models, Client) else models)


def rollout_seed(seed: int | None, task_hash: str, sample: int) -> int:
    """The seed of one rollout, 31 bits: the SHA-256 of run seed, task and sample."""
    return _hashed(f"{seed or 0}:{task_hash}:{sample}")


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass(slots=True)
class Spent:
    """What one agent has used so far, over all its chats."""

    turns: int = 0
    tokens: int = 0
    asking: int = 0
    """Its calls under way."""

    @property
    def begun(self) -> int:
        """Its calls so far, with those under way."""
        return self.turns + self.asking


class Rollout(Generic[TaskT]):
    """One attempt at `task`.

    `chat` is the policy's conversation; `open` begins others. `info` is kept in the record (JSON, at most 1 MB):
    rewards see only the record, so what they need of the episode is put there, by an `at_end` callable if it must
    be there also when a limit ends the episode. `seed` and `rng` are the same at every run of this task and sample.
    """

    grading: ClassVar[bool] = False
    boxes: RolloutBoxes | None = None
    """What it has of the pool; made when the first box is asked for."""

    def __init__(self, env: Environment[TaskT], task: TaskT, services: Services, trace: Trace) -> None:
        self.task = task
        self.trace = trace
        self.env = env
        self.services = services
        self.limits = services.limits or env.limits
        self.deadline: Deadline | None = None
        self.endings: list[Callable[[], Any]] = []
        self.turns = trace.turns
        self._lineages: dict[str, Lineage] = {}
        self._spent: dict[str, Spent] = {}
        self.chat = self.open(POLICY)
        self.chat.messages += self._opening()

    def open(
        self, agent: str, *, role: str | None = None, system: str | None = None, trainable: bool | None = None
    ) -> Chat:
        """A new conversation of `agent`.

        `role` says which model speaks for it: the agent's own name where the environment declares such a role,
        else the policy. Trainable is what the policy's model says, unless told otherwise.
        """
        if role is None:
            role = agent if agent in self.env.roles or agent in self.services.models else POLICY
        trains = role == POLICY if trainable is None else trainable
        return Chat(self, agent, role, self._client(role), system=system, trainable=trains)

    def at_end(self, function: Callable[[], Any | Awaitable[Any]]) -> None:
        """Call this, sync or async, when the episode ends, also when a limit ended it or it failed."""
        self.endings.append(function)

    @property
    def sandbox(self) -> Sandbox:
        """The rollout's own box, started when it is first used, and gone before the rollout is scored.

        What a reward needs of it, an `at_end` callable reads and keeps in `info`.
        """
        return self._lent().own

    def fresh_sandbox(self, spec: SandboxSpec | None = None) -> AbstractAsyncContextManager[Sandbox]:
        """`async with rollout.fresh_sandbox() as box`: a box that nobody has used, gone after the block.

        It is made of `spec`, else of what the task declares, else the environment.
        """
        return self._lent().fresh(spec)

    def serve(
        self, agent: str = POLICY, *, role: str | None = None, trainable: bool | None = None, inside: bool = True
    ) -> AbstractAsyncContextManager[Gateway]:
        """`async with rollout.serve() as gateway`: an endpoint for a program that brings its own loop.

            async with rollout.serve() as gateway:
                await rollout.sandbox.exec(["some-agent", rollout.task.prompt], env=gateway.env())

        It speaks OpenAI's chat completions and responses and Anthropic's messages. Each call becomes a turn of `agent`,
        whose model, sampling and limits are the run's whatever the program asks for; what ends the episode (a limit, a
        failed model) is raised when the block is left. Where the rollout declares a box, the endpoint is reached from
        `rollout.sandbox`, which needs a network of at least "loopback" and runs programs for `limits.wall` seconds;
        `inside=False` is for a program that runs on this machine all the same.
        """
        from envkit.gateway.gateway import serve

        boxed = inside and (self.task.sandbox or self.env.sandbox) is not None
        return serve(self.open(agent, role=role, trainable=trainable), self.sandbox if boxed else None)

    @property
    def info(self) -> dict[str, Any]:
        return self.trace.info

    @property
    def messages(self) -> Sequence[Message]:
        """The policy's conversation."""
        return self.chat.messages

    @property
    def reply(self) -> str:
        """The policy's last answer, without its thinking; "" where it gave none."""
        return next((m.text for m in reversed(self.chat.messages) if m.role == "assistant"), "")

    @property
    def seed(self) -> int:
        return self.trace.seed

    @cached_property
    def rng(self) -> Random:
        return Random(self.seed)

    def emit(self, event: Event) -> None:
        """Tell the run's listener, if there is one."""
        if self.services.listener is not None:
            self.services.listener(event)

    def held(self, function: str | Callable[..., Any], seconds: float) -> None:
        """Name what held the event loop for so many seconds, where that is too long."""
        if seconds > HELD_TOO_LONG:
            name = function if isinstance(function, str) else getattr(function, "__qualname__", type(function).__name__)
            self.emit(LoopHeld(self.trace, name, seconds))

    def used(self, tool: str, seconds: float, error: str | None) -> None:
        """Count one call of a tool on the trace."""
        known = self.trace.tools.get(tool, _UNUSED)
        self.trace.tools[tool] = ToolUse(
            calls=known.calls + 1, errors=known.errors + (error is not None), seconds=known.seconds + seconds
        )

    def spent(self, agent: str) -> Spent:
        """What this agent has used so far."""
        if (spent := self._spent.get(agent)) is None:
            spent = self._spent[agent] = Spent()
        return spent

    def next_seed(self, agent: str) -> int:
        """The seed that this agent's next call sends: the rollout's own for the policy's first, then one for each call.

        One for all would make a judge that is asked anew, or a forked chat, say the same again.
        """
        call = self.spent(agent).begun
        if agent == POLICY and call == 0:
            return self.seed
        return _hashed(f"{self.seed}:{agent}:{call}")

    def record(self, chat: Chat, request: Request, completion: Completion, *, seconds: float) -> Turn:
        """Put one call on the trace, as what is new in it beyond the turn that it continues."""
        if (lineage := self._lineages.get(chat.agent)) is None:
            lineage = self._lineages[chat.agent] = Lineage()
        prompt = list(request.messages)
        parent, covered = lineage.by_messages(prompt)
        kept: int | None = None
        tokens = None
        if completion.prompt_ids is not None:
            parent, tokens = _tokens(lineage, completion)
            covered, kept = self._shared(parent, prompt)
        turn = Turn(
            agent=chat.agent,
            parent=parent,
            kept=kept,
            prompt=tuple(prompt[covered:]),
            reply=completion.message,
            finish_reason=completion.finish_reason,
            trainable=chat.trainable,
            tools=tuple(tool["function"]["name"] for tool in request.tools),
            tokens=tokens,
            usage=completion.usage,
            sampling=dict(completion.sampling),
            model=completion.model,
            seconds=seconds,
            retries=completion.retries,
            cost=completion.cost,
        )
        index = len(self.turns)
        self.turns.append(turn)
        lineage.add_messages(index, [*prompt, turn.reply])
        if completion.prompt_ids is not None and completion.completion_ids is not None:
            lineage.add_tokens(index, completion.prompt_ids, completion.completion_ids)
        spent = self.spent(chat.agent)
        spent.turns += 1
        if (usage := completion.usage) is not None:
            spent.tokens += usage.prompt_tokens + usage.completion_tokens
        return turn

    def _lent(self) -> RolloutBoxes:
        if self.boxes is None:
            from envkit.sandbox.lent import RolloutBoxes

            self.boxes = RolloutBoxes(self)
        return self.boxes

    def _opening(self) -> Sequence[Message]:
        """What the policy's chat begins with."""
        system = self.env.system_prompt
        return (() if system is None else (_system(system),)) + self.task.messages()

    def _client(self, role: str) -> Client:
        client = self.services.models.get(role)
        if client is None:
            raise EnvError(f"no model is bound to role {role!r}; bound: {', '.join(self.services.models)}")
        return client

    def _shared(self, parent: int | None, prompt: list[Message]) -> tuple[int, int | None]:
        """(messages of the prompt that the parent's conversation begins with, `kept` where that is not all of it)."""
        if parent is None:
            return 0, None
        said = conversation(self.turns, parent)
        same = next(
            (i for i, (a, b) in enumerate(zip(said, prompt, strict=False)) if a != b), min(len(said), len(prompt))
        )
        return same, None if same == len(said) else same


class ScoringRollout(Rollout[TaskT]):
    """A finished rollout as its rewards see it, rebuilt from the record alone.

    The policy cannot be asked any more; other roles can (judges), and their calls go to `trace.judging`.
    """

    grading = True

    def __init__(self, env: Environment[TaskT], task: TaskT, services: Services, trace: Trace) -> None:
        super().__init__(env, task, services, trace)
        self.limits = _uncounted(self.limits)
        self.turns = trace.judging

    @property
    def sandbox(self) -> Sandbox:
        raise EnvError(
            "a reward cannot use the agent's box: it is gone. Use fresh_sandbox(); what is needed of the agent's box, "
            "an at_end callable can keep in rollout.info."
        )

    def serve(
        self, agent: str = POLICY, *, role: str | None = None, trainable: bool | None = None, inside: bool = True
    ) -> AbstractAsyncContextManager[Gateway]:
        raise EnvError(
            "a reward cannot serve the policy to a program: the episode is over. What is needed of the program's work, "
            "an at_end callable can keep in rollout.info."
        )

    def _opening(self) -> Sequence[Message]:
        """The policy's whole conversation, up to its last reply."""
        turns = self.trace.turns
        last = next((i for i in reversed(range(len(turns))) if turns[i].agent == POLICY), None)
        return super()._opening() if last is None else self.trace.conversation(last)

    def _client(self, role: str) -> Client:
        return _FINISHED if role == POLICY else super()._client(role)


@lru_cache
def _system(prompt: str) -> Message:
    """The message with this prompt, the same one in all rollouts."""
    return Message.system(prompt)


@lru_cache
def _uncounted(limits: Limits) -> Limits:
    """The limits without their counts: what a judge says is not the episode's."""
    return limits.model_copy(update={"max_turns": None, "max_total_tokens": None})


class _Finished(Client):
    """The policy's client in scoring: the episode is over."""

    async def complete(self, request: Request) -> Completion:
        raise EnvError("a reward cannot ask the policy: the episode is over. Use a role of its own, such as 'judge'.")


_FINISHED = _Finished()


def _tokens(lineage: Lineage, completion: Completion) -> tuple[int | None, Tokens]:
    """(the turn that the prompt's ids continue, the tokens beyond it)."""
    ids, new, logprobs = completion.prompt_ids, completion.completion_ids, completion.logprobs
    if ids is None or new is None or logprobs is None or len(logprobs) != len(new):
        raise ModelError("the endpoint gave token ids without one logprob for each: nothing can be trained on them")
    parent, covered = lineage.by_tokens(ids)
    temperature = completion.sampling.get("temperature")
    return parent, Tokens(
        prompt=ids[covered:],
        completion=new,
        logprobs=logprobs,
        version=completion.version,
        temperature=1.0 if temperature is None else temperature,
    )
