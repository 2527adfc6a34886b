"""Traces: prompts put together again, and a record that loses nothing on its way through JSON."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envkit import Environment, Image, Message, Rollout, Score, Scripted, Services, Task, run_rollout
from envkit.clients.base import Client, Completion, Request
from envkit.clients.scripted import call
from envkit.trace import ErrorRecord, Timing, Tokens, ToolUse, Trace, Turn, conversation
from envkit.types import Text, Usage

TASK = Task(id="t", prompt="go", answer="5")


class Run(Environment[Task]):
    """An environment whose `run` is this function."""

    def __init__(self, episode: Callable[[Rollout[Task]], Awaitable[Any]], **more: Any) -> None:
        super().__init__([TASK], **more)
        self.episode = episode

    async def run(self, rollout: Rollout[Task]) -> None:
        await self.episode(rollout)


@dataclass
class Listening(Client):
    """Numbers its replies and keeps what it was sent; with `tokens` a token is a letter."""

    tokens: bool
    sent: list[tuple[Message, ...]] = field(default_factory=list[tuple[Message, ...]])
    wide: bool = False

    async def complete(self, request: Request) -> Completion:
        self.sent.append(tuple(request.messages))
        reply = f"r{len(self.sent)}"
        if not self.tokens:
            return Completion(Message.assistant(reply))
        code = "q" if self.wide else "i"
        ids = array(code, b"".join(bytes(array(code, map(ord, f"<{m.role[0]}>{m.text}"))) for m in request.messages))
        return Completion(
            Message.assistant(reply),
            prompt_ids=ids + array(code, map(ord, "<a>")),
            completion_ids=array(code, map(ord, reply)),
            logprobs=array("d" if self.wide else "f", [-0.5] * len(reply)),
        )


async def edits(rollout: Rollout[Task]) -> None:
    """A conversation, a fork, a compaction, a message taken back, one changed in the middle, another agent."""
    chat = rollout.chat
    await chat.generate()
    await chat.generate("more")
    fork = chat.fork()
    await fork.generate("aside")
    chat.messages = [chat.messages[0], Message.user("summary")]
    await chat.generate()
    del chat.messages[-1]
    await chat.generate("again")
    chat.messages[0] = Message.user((Text(text="look"), Image.of(b"png")))
    await chat.generate("what is it?")
    await fork.generate("still there?")
    await rollout.open("guest", system="be brief").generate("hello")


@pytest.mark.parametrize("tokens", [False, True])
async def test_every_prompt_is_put_together_as_it_was_sent(tokens: bool) -> None:
    model = Listening(tokens)
    trace = await run_rollout(Run(edits), TASK, Services({"policy": model}, tokens=tokens))
    assert trace.outcome == "completed", trace.error
    for read in (trace, Trace.model_validate_json(trace.to_json())):
        assert [read.prompt(i) for i in range(len(read.turns))] == model.sent
        assert read.conversation(2)[-1] == Message.assistant("r3")
    assert [turn.parent for turn in trace.turns] == [None, 0, 1, None, None, None, 2, None]
    assert [len(turn.prompt) for turn in trace.turns] == [1, 1, 1, 2, 3, 5, 1, 2]
    assert [message.text for message in trace.replies()] == ["r1", "r2", "r3", "r4", "r5", "r6", "r7"]
    assert [message.text for message in trace.replies("guest")] == ["r8"]


async def test_messages_that_read_alike_in_tokens_are_kept_as_they_were() -> None:
    """The tokens go on from the parent's, the messages only from those that are the same: `kept` says how many."""

    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate()
        rollout.chat.messages[0] = Message(role="user", content="go", name="ann")
        await rollout.chat.generate("more")
        await rollout.chat.generate("and more")

    model = Listening(tokens=True)
    trace = await run_rollout(Run(episode), TASK, Services({"policy": model}, tokens=True))
    assert [(turn.parent, turn.kept) for turn in trace.turns] == [(None, None), (0, 0), (1, None)]
    assert [trace.prompt(i) for i in range(3)] == model.sent
    assert len(trace.samples()) == 1


async def test_ids_of_another_width_are_kept_as_int32() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate()
        await rollout.chat.generate("more")

    traces = [
        await run_rollout(Run(episode), TASK, Services({"policy": Listening(tokens=True, wide=wide)}, tokens=True))
        for wide in (False, True)
    ]
    assert traces[0].turns[1].tokens == traces[1].turns[1].tokens
    assert traces[0].prompt_ids(1) == traces[1].prompt_ids(1) == array("i", map(ord, "<u>go<a>r1<u>more<a>"))
    assert Trace.model_validate_json(traces[1].to_json()) == traces[1]


async def test_prompt_ids_of_a_run_without_tokens_say_so() -> None:
    trace = await run_rollout(Run(edits), TASK, Listening(tokens=False))
    with pytest.raises(ValueError, match="tokens=True"):
        trace.prompt_ids(1)


async def test_a_judge_that_gives_tokens_is_recorded_apart_and_whole() -> None:
    """Its turns are numbered among themselves: they must not be looked up among the episode's."""
    judge = Listening(tokens=True)

    async def asks_twice(rollout: Rollout[Task]) -> float:
        chat = rollout.open("judge")
        await chat.generate("is it right?")
        await chat.generate("sure?")
        return 1.0

    env = Run(lambda rollout: rollout.chat.generate(), rewards=[asks_twice])
    trace = await run_rollout(env, TASK, {"policy": Scripted(["5"]), "judge": judge})
    assert trace.reward == 1.0, trace.error
    assert [turn.reply.text for turn in trace.judging] == ["r1", "r2"]
    assert [len(turn.prompt) for turn in trace.judging] == [1, 1]
    assert conversation(trace.judging, 1)[:-1] == list(judge.sent[1])


def full_trace() -> Trace:
    """A trace that has something in every field."""
    trace = Trace.begin(TASK, env="math", sample=2, attempt=1, seed=7)
    reply = Message(role="assistant", content="5", reasoning="so", reasoning_field="reasoning")
    trace.turns = [
        Turn(
            prompt=(Message.user((Text(text="2+3?"), Image.of(b"png"))),),
            reply=call("add", a=2, b=3),
            finish_reason="tool_calls",
            tools=("add",),
            tokens=Tokens(
                prompt=array("i", [1, 2**31 - 1, -1]),
                completion=array("i", [4]),
                logprobs=array("f", [-0.1]),
                version="v1",
                temperature=0.6,
            ),
            usage=Usage(prompt_tokens=3, completion_tokens=1, reasoning_tokens=1, cached_tokens=2),
            sampling={"temperature": 0.6, "stop": ["\n"], "extra_body": {"top_k": 5}},
            model="m",
            seconds=1.5,
            retries=1,
            cost=0.001,
        ),
        Turn(agent="guest", parent=0, kept=1, prompt=(Message.tool("5", "1"),), reply=reply, trainable=False),
    ]
    trace.tools = {"add": ToolUse(calls=2, errors=1, seconds=0.25)}
    trace.judging = [Turn(agent="judge", prompt=(Message.user("right?"),), reply=Message.assistant("yes"))]
    trace.outcome, trace.stop = "truncated", "length"
    trace.error = ErrorRecord(kind="env", type="ValueError", message="x", phase="run", traceback="Traceback", status=1)
    trace.reward, trace.rewards, trace.agent_rewards = 0.1, {"a": 0.1, "b": None}, {"policy": 0.1, "guest": -1.0}
    trace.metrics, trace.scores = {"m": None}, {"a": Score(value=0.1, answer="5", reason="r", span=(0, 1))}
    trace.info = {"nested": {"list": [1, 2.5, None, "é\u2028"]}, "empty": {}}
    trace.changes, trace.timing = ("model",), Timing(started=1e9, run=2.0, score=0.5)
    return trace


def test_every_field_survives_the_round_trip() -> None:
    trace = full_trace()
    assert not [name for name in Trace.model_fields if getattr(trace, name) in (None, {}, [], ())]
    for record in (trace.to_json(), trace.model_dump_json(), trace.model_dump_json(by_alias=True)):
        again = Trace.model_validate_json(record)
        assert again == trace
        assert again.model_dump() == trace.model_dump()
        assert again.to_json() == trace.to_json()
    assert b"\n" not in trace.to_json()
    assert orjson.loads(trace.to_json())["schema"] == 1


def each_object(value: Any) -> list[dict[str, Any]]:
    """Every JSON object in a record, itself among them."""
    if isinstance(value, list):
        return [found for item in value for found in each_object(item)]
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in each_object(item))]
    return []


def test_fields_of_a_newer_envkit_survive_at_every_level() -> None:
    record = orjson.loads(full_trace().to_json())
    free = ("rewards", "agent_rewards", "metrics", "scores")  # keyed by names of the environment's own
    objects = [found for found in each_object(record) if not any(found is record[name] for name in free)]
    assert len(objects) > 15
    for number, found in enumerate(objects):
        found["newer"] = {"number": number}
    trace = Trace.model_validate_json(orjson.dumps(record))
    assert orjson.loads(trace.to_json()) == record
    assert Trace.model_validate_json(trace.to_json()) == trace
    del record["newer"]
    assert Trace.model_validate_json(orjson.dumps(record)) != trace


def test_an_image_is_in_the_record_by_its_digest_only() -> None:
    data = b"\x89PNG" * 1000
    trace = Trace.begin(TASK)
    trace.turns = [Turn(prompt=(Message.user((Image.of(data),)),), reply=Message.assistant("a cat"))]
    record = trace.to_json()
    assert len(record) < 1000
    assert base64.b64encode(data) not in record
    (image,) = Trace.model_validate_json(record).prompt(0)[0].content
    assert isinstance(image, Image)
    assert image.with_data(data).data == data


numbers = st.floats(width=32, allow_nan=False)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)), st.lists(numbers), st.floats(0, 2))
def test_tokens_are_lossless(ids: list[int], logprobs: list[float], temperature: float) -> None:
    tokens = Tokens(
        prompt=array("i", ids), completion=array("i", ids[::-1]), logprobs=array("f", logprobs), temperature=temperature
    )
    again = Tokens.model_validate_json(tokens.model_dump_json())
    assert again == tokens
    assert (again.prompt.typecode, again.completion.typecode, again.logprobs.typecode) == ("i", "i", "f")
    assert Tokens.model_validate(tokens.model_dump()) == tokens


def test_tokens_are_little_endian_base64_in_the_record() -> None:
    tokens = Tokens(prompt=array("i", [1, 258]), completion=array("i"), logprobs=array("f", [-math.inf, 1.0]))
    record = orjson.loads(tokens.model_dump_json())
    assert base64.b64decode(record["prompt"]) == b"\x01\0\0\0\x02\x01\0\0"
    assert base64.b64decode(record["logprobs"]) == b"\0\0\x80\xff\0\0\x80\x3f"
    assert record["completion"] == ""


async def test_a_trace_read_back_needs_its_task_again() -> None:
    trace = await run_rollout(Run(lambda rollout: rollout.chat.generate()), TASK, Scripted(["5"]))
    assert trace.task is TASK
    again = Trace.model_validate_json(trace.to_json())
    with pytest.raises(ValueError, match="without its task 't'"):
        _ = again.task
    assert again.with_task(TASK).task is TASK
    assert (again.task_id, again.task_hash) == (TASK.id, TASK.hash)


async def test_usage_is_the_episode_s_calls_together() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=3, reasoning_tokens=2, cached_tokens=1)
    replies = [Completion(Message.assistant("a"), usage=usage), "b", Completion(Message.assistant("c"), usage=usage)]

    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate()
        await rollout.chat.generate("more")

    async def judged(rollout: Rollout[Task]) -> float:
        await rollout.open("judge").generate("right?")
        return 1.0

    model = Scripted(replies)
    trace = await run_rollout(Run(episode, rewards=[judged]), TASK, {"policy": model, "judge": model})
    assert trace.usage == usage
    assert len(trace.judging) == 1
    assert Trace.begin(TASK).usage == Usage()


def test_no_two_traces_have_one_id() -> None:
    assert len({Trace.begin(TASK).id for _ in range(1000)}) == 1000
