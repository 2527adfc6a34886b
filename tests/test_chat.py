"""Chats: what is sent, what is recorded, how tools, forks, edits and limits show on the trace."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from envkit import Done, Environment, Image, Limits, Message, Rollout, Scripted, Services, Task, run_rollout
from envkit.clients.base import Client, Completion, Request
from envkit.clients.scripted import call
from envkit.errors import ContextOverflow, InfraError
from envkit.events import CallEnded, Event, LoopHeld, ToolEnded
from envkit.types import Text, ToolCall, Usage
from envkit.watchdog import Watchdog


def task(prompt: str | None = "1/0?", **more: Any) -> Task:
    return Task(id="t", prompt=prompt, **more)


class Calculator(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        def add(a: int, b: int) -> int:
            return a + b

        async def multiply(a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a * b

        rollout.info["answer"] = (await rollout.chat.run_tools([add, multiply])).text


class Recording(Client):
    """Answers from a list and keeps the requests."""

    def __init__(self, *replies: Completion | Exception) -> None:
        self.replies, self.requests = list(replies), list[Request]()

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def said(text: str, **more: Any) -> Completion:
    return Completion(Message.assistant(text), **more)


async def test_unknown_tool_goes_back_to_the_model() -> None:
    model = Scripted([call("divide", a=1, b=0), "I cannot divide."])
    trace = await run_rollout(Calculator([]), task(), model)
    assert trace.turns[1].prompt[-1].content == "There is no tool named 'divide'. Tools: add, multiply."
    assert trace.outcome == "completed"
    assert trace.info == {"answer": "I cannot divide."}


async def test_parallel_calls_answer_in_order_and_really_overlap() -> None:
    live: list[int] = []
    most: list[int] = []

    async def slow(n: int) -> int:
        live.append(n)
        most.append(len(live))
        await asyncio.sleep(0.01 * (3 - n))
        live.remove(n)
        return n

    class Parallel(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.run_tools([slow])

    calls = Message.assistant(tool_calls=tuple(call("slow", n=n).tool_calls[0] for n in range(3)))
    trace = await run_rollout(Parallel([]), task(), Scripted([calls, "done"]))
    assert [m.content for m in trace.turns[1].prompt] == ["0", "1", "2"]
    assert max(most) == 3


async def test_done_ends_run_tools_with_its_value() -> None:
    class Submit(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            def submit(answer: int) -> None:
                raise Done(answer)

            rollout.info["submitted"] = await rollout.chat.run_tools([submit])
            rollout.info["last"] = rollout.messages[-1].text

    trace = await run_rollout(Submit([]), task(), Scripted([call("submit", answer=4)]))
    assert trace.info == {"submitted": 4, "last": "4"}
    assert len(trace.turns) == 1


async def test_a_failing_tool_service_cancels_the_calls_beside_it() -> None:
    from envkit import InfraError

    cancelled: list[bool] = []

    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def broken() -> None:
        await asyncio.sleep(0)
        raise InfraError("the box is gone")

    class Both(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.run_tools([patient, broken])

    calls = Message.assistant(tool_calls=(call("patient").tool_calls[0], call("broken").tool_calls[0]))
    trace = await run_rollout(Both([]), task(), Scripted([calls]))
    assert trace.error is not None
    assert (trace.error.kind, trace.error.message) == ("infra", "the box is gone")
    assert cancelled == [True]


async def test_a_turn_stores_only_what_is_new_and_the_prompt_can_be_rebuilt() -> None:
    class Talk(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            for n in range(5):
                await rollout.chat.generate(f"question {n}")

    model = Recording(*(said(f"answer {n}") for n in range(5)))
    trace = await run_rollout(Talk([], system_prompt="be brief"), task(None), model)
    assert [len(turn.prompt) for turn in trace.turns] == [2, 1, 1, 1, 1]
    assert [turn.parent for turn in trace.turns] == [None, 0, 1, 2, 3]
    for index, request in enumerate(model.requests):
        assert trace.prompt(index) == tuple(request.messages)


async def test_edited_histories_and_forks_keep_their_own_lines() -> None:
    class Forks(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.generate("one")
            other = rollout.chat.fork()
            await rollout.chat.generate("two")
            await other.generate("other two")
            rollout.chat.messages[:] = [Message.user("summary")]
            await rollout.chat.generate("three")

    model = Recording(*(said(f"answer {n}") for n in range(4)))
    trace = await run_rollout(Forks([]), task(None), model)
    assert [turn.parent for turn in trace.turns] == [None, 0, 0, None]
    for index, request in enumerate(model.requests):
        assert trace.prompt(index) == tuple(request.messages)


async def test_sampling_of_the_command_line_wins_over_the_calls_over_the_environments() -> None:
    class Sampled(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.generate(temperature=0.5, top_p=0.5)

    env = Sampled([], sampling={"temperature": 0.1, "top_p": 0.1, "max_tokens": 10})
    model = Recording(said("x"))
    trace = await run_rollout(env, task(), Services({"policy": model}, sampling={"temperature": 0.9}, seed=7))
    sent = model.requests[0].sampling
    assert sent == {"temperature": 0.9, "top_p": 0.5, "max_tokens": 10, "seed": trace.seed}


async def test_without_a_seed_none_is_sent() -> None:
    model = Recording(said("x"))
    await run_rollout(Calculator([]), task(), model)
    assert model.requests[0].sampling == {}


@pytest.mark.parametrize(
    ("replies", "limits", "stop", "turns"),
    [
        ([said("a", finish_reason="length")], Limits(), "length", 1),
        ([said("a"), ContextOverflow("too long")], Limits(), "context", 1),
        ([said("a"), said("b"), said("c")], Limits(max_turns=2), "max_turns", 2),
        ([said("a", usage=Usage(prompt_tokens=11))] * 3, Limits(max_total_tokens=20), "max_total_tokens", 2),
    ],
)
async def test_limits_truncate_and_the_rest_is_scored(
    replies: Sequence[Any], limits: Limits, stop: str, turns: int
) -> None:
    class Endless(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            rollout.at_end(lambda: rollout.info.update(turns=len(rollout.trace.turns)))
            while True:
                await rollout.chat.generate("again")

    def as_many(rollout: Rollout[Task]) -> float:
        return float(rollout.info["turns"])

    trace = await run_rollout(Endless([], rewards=[as_many], limits=limits), task(None), Recording(*replies))
    assert (trace.outcome, trace.stop, trace.reward) == ("truncated", stop, float(turns))


async def test_too_much_room_asked_for_the_first_answer_is_a_setting_and_no_overflow() -> None:
    class Endless(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            while True:
                await rollout.chat.generate("again")

    def zero(rollout: Rollout[Task]) -> float:
        return 0.0

    env = Endless([], rewards=[zero])
    for prompt, fits in ((200, True), (None, True), (5000, False)):
        over = ContextOverflow("no", status=400, prompt=prompt, window=4096, advice="Say --max-tokens.")
        first = await run_rollout(env, task(None), Recording(over))
        assert (first.outcome, first.reward) == (("failed", None) if fits else ("truncated", 0.0))
        assert not fits or (first.error is not None and first.error.message == "Say --max-tokens.")
        later = await run_rollout(env, task(None), Recording(said("a"), over))
        assert (later.outcome, later.stop, later.reward) == ("truncated", "context", 0.0)


async def test_a_call_that_overflows_has_ended() -> None:
    class Once(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.generate()

    heard: list[Any] = []
    await run_rollout(Once([]), task(), Services({"policy": Recording(ContextOverflow("long"))}, listener=heard.append))
    assert [event.error for event in heard if isinstance(event, CallEnded)] == ["long"]


async def test_another_role_that_is_cut_short_is_a_model_error() -> None:
    class Simulated(Environment[Task]):
        roles = ("user",)

        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.open("user").generate("hello")

    models = {"policy": Scripted([]), "user": Recording(said("x", finish_reason="length"))}
    trace = await run_rollout(Simulated([]), task(None), models)
    assert trace.outcome == "failed"
    assert trace.error is not None
    assert (trace.error.kind, trace.error.message) == ("model", "role 'user' (agent 'user') was cut short: length")


async def test_counts_are_for_each_agent_over_its_chats() -> None:
    class Two(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            for agent in ("left", "left", "right"):
                await rollout.open(agent).generate("go")
            rollout.info["reached"] = True
            await rollout.open("left").generate("go")

    trace = await run_rollout(Two([], limits=Limits(max_turns=2)), task(None), Scripted(["a"] * 9))
    assert (trace.stop, trace.info) == ("max_turns", {"reached": True})


async def test_images_in_prompts_and_tool_results_reach_the_wire() -> None:
    picture = Image.of(b"\x89PNG")

    class Look(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            def look() -> Image:
                return picture

            await rollout.chat.run_tools([look])

    model = Recording(Completion(call("look")), said("a cat"))
    asked = Message.user((Text(text="what is it?"), picture))
    trace = await run_rollout(Look([]), Task(id="t", prompt=(asked,)), model)
    url = "data:image/png;base64,iVBORw=="
    first, last = model.requests[1].messages[0], model.requests[1].messages[-1]
    assert first.to_wire()["content"][1]["image_url"]["url"] == url
    assert last.to_wire()["content"][0]["image_url"]["url"] == url
    assert b"iVBORw" not in trace.to_json()


async def test_an_empty_chat_says_what_to_do() -> None:
    class Silent(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.generate()

    trace = await run_rollout(Silent([]), task(None), Scripted(["x"]))
    assert trace.error is not None
    assert "the chat of 'policy' is empty" in trace.error.message


async def test_the_trace_counts_what_tools_were_called_and_what_went_wrong() -> None:
    class Shop(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            def find(name: str) -> str:
                if name == "nothing":
                    raise LookupError(name)
                return name

            await rollout.chat.run_tools([find])

    wrong = ToolCall(id="4", name="x" * 9999, arguments="{}")
    calls = [
        ToolCall(id=str(i), name="find", arguments=json.dumps({"name": name}))
        for i, name in enumerate(["a", "nothing", "b"])
    ]
    model = Scripted([Message.assistant("", (*calls, wrong)), "done"])
    trace = await run_rollout(Shop([]), Task(id="1", prompt="?"), model)
    assert {name: (use.calls, use.errors) for name, use in trace.tools.items()} == {
        "find": (3, 1),
        "no such tool": (1, 1),
    }
    assert trace.tools["find"].seconds > 0


async def test_a_tool_that_holds_the_loop_is_named_while_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    named = threading.Event()

    def hold() -> str:
        return "named" if named.wait(20) else "not named"

    class Held(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.run_tools([hold])

    def listen(event: Event) -> None:
        if isinstance(event, LoopHeld) and (event.function, event.trace.task_id) == ("hold", "1"):
            named.set()

    monkeypatch.setattr("envkit.tools.WATCHDOG", Watchdog(after=0.1, every=0.02))
    models = Services({"policy": Scripted([call("hold"), "done"])}, listener=listen)
    trace = await run_rollout(Held([]), Task(id="1", prompt="?"), models)
    assert trace.turns[1].prompt[-1].content == "named"


@pytest.mark.parametrize(
    ("ending", "errors", "said"),
    [
        (InfraError("the box is gone"), 1, "InfraError: the box is gone"),
        (Done("42"), 0, None),
        (None, 1, "CancelledError: the episode ended before the tool did"),
    ],
)
async def test_the_call_that_ended_the_episode_is_counted_too(
    ending: Exception | None, errors: int, said: str | None
) -> None:
    class Last(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            async def last() -> None:
                if ending is not None:
                    raise ending
                await asyncio.sleep(60)

            await rollout.chat.run_tools([last])

    ended: list[Event] = []
    services = Services({"policy": Scripted([call("last")])}, listener=ended.append)
    trace = await run_rollout(Last([], limits=Limits(run=0.2)), Task(id="1", prompt="?"), services)
    assert (trace.tools["last"].calls, trace.tools["last"].errors) == (1, errors)
    assert [event.error for event in ended if isinstance(event, ToolEnded)] == [said]
