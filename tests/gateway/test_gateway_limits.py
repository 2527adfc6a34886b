"""How an episode ends through the gateway: limits, a failed model, a program that goes on or dies, an empty box."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest
from external import TASK, Model, Serves, anthropic_client, calling, openai_client, trace_of

from envkit import InfraError, Limits, Message, ModelError, Rollout, Services, Task, run_rollout
from envkit.clients.base import Client, Completion, Request
from envkit.clients.endpoint import Endpoint
from envkit.clients.http import HTTPClient
from envkit.errors import AnswerTooLong, ContextOverflow
from envkit.events import CallEnded, Event
from envkit.gateway import gateway as gateways
from envkit.gateway.gateway import Gateway
from envkit.types import Usage
from server import Fault, Server

HELLO: Any = [{"role": "user", "content": "a"}]


def turns(rollout: Rollout[Task]) -> float:
    return float(rollout.info["turns"])


def said(text: str, **more: Any) -> Completion:
    return Completion(Message.assistant(text), **more)


@pytest.mark.parametrize(
    ("replies", "limits", "stop", "answered", "status"),
    [
        (["a", "b", "c"], Limits(max_turns=2), "max_turns", 2, 401),
        (["a"], Limits(max_turns=0), "max_turns", 0, 401),
        ([said("a", usage=Usage(prompt_tokens=11))] * 3, Limits(max_total_tokens=20), "max_total_tokens", 2, 401),
        ([said("a", finish_reason="length")], Limits(), "length", 1, 401),
        (["a", ContextOverflow("too long")], Limits(), "context", 1, 400),
    ],
)
async def test_a_limit_is_told_to_the_program_and_the_rollout_is_cut_and_scored(
    replies: list[Any], limits: Limits, stop: str, answered: int, status: int
) -> None:
    async def loops(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            for _ in range(answered):
                await client.chat.completions.create(model="m", messages=HELLO)
            with pytest.raises(openai.APIStatusError) as refused:
                await client.chat.completions.create(model="m", messages=HELLO)
            assert refused.value.status_code == status
            assert refused.value.code == ("context_length_exceeded" if stop == "context" else stop)
        async with anthropic_client(gateway) as client:  # and nobody else is answered
            with pytest.raises(anthropic.AuthenticationError, match=stop):
                await client.messages.create(model="m", max_tokens=5, messages=HELLO)
        raise RuntimeError("the program exited with 1")

    model = Model(*replies)
    trace = await trace_of(loops, model, rewards=[turns], limits=limits)
    assert (trace.outcome, trace.stop, trace.reward) == ("truncated", stop, float(answered))
    assert len(trace.turns) == answered


async def test_parallel_calls_cannot_pass_a_limit_together() -> None:
    asked = 0

    class Slow(Client):
        async def complete(self, request: Request) -> Completion:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0.05)
            return said("a")

    async def at_once(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            calls = [client.chat.completions.create(model="m", messages=HELLO) for _ in range(9)]
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, openai.AuthenticationError) for result in results) == 6

    trace = await trace_of(at_once, Slow(), limits=Limits(max_turns=3))
    assert (asked, len(trace.turns), trace.stop) == (3, 3, "max_turns")


async def test_a_cap_that_the_program_chose_is_its_own_affair() -> None:
    async def short(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            for _ in range(2):
                got = await client.chat.completions.create(model="m", messages=HELLO, max_tokens=1)
                assert got.choices[0].finish_reason == "length"

    trace = await trace_of(short, Model(*[said("a", finish_reason="length")] * 2))
    assert (trace.outcome, len(trace.turns)) == ("completed", 2)
    services = {"sampling": {"max_tokens": 7}}
    model = Model(said("a", finish_reason="length"))
    cut = await run_rollout(Serves(short), TASK, Services({"policy": model}, **services))
    assert (cut.outcome, cut.stop, model.requests[0].sampling) == ("truncated", "length", {"max_tokens": 7})


@pytest.mark.parametrize("refused", [ContextOverflow, AnswerTooLong])
async def test_a_cap_beyond_the_models_window_is_no_overflow(refused: type[ModelError]) -> None:
    """Anthropic's dialect must name a cap, and programs name the most that their usual model can write."""

    class Window(Model):
        async def complete(self, request: Request) -> Completion:
            if request.sampling.get("max_tokens", 0) > 8192:
                raise refused("This model's maximum context length is 8192 tokens.")
            if len(request.messages) > 1:
                raise ContextOverflow("This model's maximum context length is 8192 tokens.")
            return await super().complete(request)

    async def program(gateway: Gateway) -> None:
        async with anthropic_client(gateway) as client:
            said = await client.messages.create(model="m", max_tokens=20000, messages=HELLO)
            assert said.content[0].text == "a"  # pyright: ignore
            longer: Any = [*HELLO, {"role": "assistant", "content": "a"}, *HELLO]
            with pytest.raises(anthropic.BadRequestError, match="too long"):
                await client.messages.create(model="m", max_tokens=20000, messages=longer)

    model = Window("a")
    trace = await trace_of(program, model)
    assert (trace.stop, len(trace.turns), [request.sampling for request in model.requests]) == ("context", 1, [{}])


async def test_a_failed_model_fails_the_rollout_whatever_the_program_makes_of_it() -> None:
    told: list[str] = []

    async def shrugs(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            with pytest.raises(openai.InternalServerError) as refused:
                await client.chat.completions.create(model="m", messages=HELLO)
            with pytest.raises(openai.AuthenticationError, match="its model failed"):
                await client.chat.completions.create(model="m", messages=HELLO)
            told.append(str(refused.value.body))

    with Server(faults=[Fault("401", most=99)]) as server:
        client = HTTPClient(Endpoint(url=server.url, model="m"))
        trace = await trace_of(shrugs, client, rewards=[turns])
        await client.close()
    assert (trace.outcome, trace.reward, trace.turns) == ("failed", None, [])
    assert trace.error is not None
    assert (trace.error.kind, trace.error.status) == ("model", 401)
    assert len(server.bodies) == 1  # the SDK was told not to try again
    assert server.url not in told[0]


async def test_a_failure_of_ours_goes_before_a_limit_and_a_limit_before_what_a_program_does() -> None:
    async def dies_with_its_box(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="m", messages=HELLO)
        raise InfraError("the box is gone")

    trace = await trace_of(dies_with_its_box, Model(), limits=Limits(max_turns=0))
    assert trace.error is not None
    assert (trace.outcome, trace.error.kind) == ("failed", "infra")

    async def gives_up(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="m", messages=HELLO)
        raise InfraError("the box is gone")

    trace = await trace_of(gives_up, Model(ModelError("it is down")))
    assert trace.error is not None
    assert (trace.error.kind, trace.error.message) == ("model", "it is down")


async def test_a_program_that_never_leaves_is_ended_with_the_reason_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "GRACE_SECONDS", 0.05)

    async def for_ever(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            while True:
                try:
                    await client.chat.completions.create(model="m", messages=HELLO)
                except openai.OpenAIError:
                    await asyncio.sleep(0.01)

    trace = await trace_of(for_ever, Model("a"), limits=Limits(max_turns=1, run=60))
    assert (trace.outcome, trace.stop, len(trace.turns)) == ("truncated", "max_turns", 1)
    trace = await trace_of(for_ever, Model(ModelError("down")), limits=Limits(run=60))
    assert (trace.outcome, trace.stop) == ("failed", "error")


async def test_the_deadline_ends_a_call_under_way_and_a_failed_model_is_not_taken_for_it() -> None:
    class Never(Client):
        async def complete(self, request: Request) -> Completion:
            if request.messages[0].content == "fail":
                raise ModelError("it is down")
            await asyncio.sleep(3600)
            raise AssertionError

    def waits(first: str) -> Any:
        async def program(gateway: Gateway) -> None:
            async with openai_client(gateway) as client:
                for content in (first, "wait"):
                    try:
                        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
                    except openai.APIStatusError:
                        await asyncio.sleep(3600)

        return program

    trace = await trace_of(waits("wait"), Never(), limits=Limits(run=0.3))
    assert (trace.outcome, trace.stop, trace.turns) == ("truncated", "timeout", [])
    trace = await trace_of(waits("fail"), Never(), limits=Limits(run=1.5))
    assert (trace.outcome, trace.stop) == ("failed", "error")


async def test_cancelled_from_outside_it_is_cancelled_and_the_port_is_closed() -> None:
    served: list[Gateway] = []
    asked = asyncio.Event()

    class Never(Client):
        async def complete(self, request: Request) -> Completion:
            asked.set()
            await asyncio.sleep(3600)
            raise AssertionError

    async def program(gateway: Gateway) -> None:
        served.append(gateway)
        async with openai_client(gateway) as client:
            await client.chat.completions.create(model="m", messages=HELLO)

    rollout = asyncio.create_task(trace_of(program, Never()))
    async with asyncio.timeout(10):
        await asked.wait()
        rollout.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rollout
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served[0].port)


async def test_time_lost_to_the_endpoint_is_given_back_and_each_call_is_an_event() -> None:
    events: list[Event] = []

    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            await client.chat.completions.create(model="m", messages=HELLO)

    with Server(faults=[Fault("429", most=1)], retry_after="1.6") as server:
        client = HTTPClient(Endpoint(url=server.url, model="m"))
        trace = await trace_of(program, client, {"listener": events.append}, limits=Limits(run=1.5))
        await client.close()
    assert (trace.outcome, trace.turns[0].retries) == ("completed", 1)
    assert [event.turn for event in events if isinstance(event, CallEnded)] == trace.turns


async def test_a_program_may_play_another_role_whose_limit_is_a_failure() -> None:
    class Opposed(Serves):
        roles = ("opponent",)

        async def run(self, rollout: Rollout[Task]) -> None:
            async with rollout.serve("opponent") as gateway:
                await self.program(gateway)

    async def program(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
            with pytest.raises(openai.APIStatusError):
                await client.chat.completions.create(model="m", messages=HELLO)

    models = {"policy": Model(), "opponent": Model("a")}
    trace = await run_rollout(Opposed(program, limits=Limits(max_turns=1)), TASK, models)
    assert trace.error is not None
    assert trace.error.message == "role 'opponent' (agent 'opponent') was cut short: max_turns"
    assert [(turn.agent, turn.trainable) for turn in trace.turns] == [("opponent", False)]


async def test_a_reward_gets_no_gateway_and_says_what_to_do() -> None:
    async def greedy(rollout: Rollout[Task]) -> float:
        async with rollout.serve():
            return 1.0

    async def nothing(gateway: Gateway) -> None:
        assert gateway.url.startswith("http://127.0.0.1:")

    trace = await run_rollout(Serves(nothing, rewards=[greedy]), TASK, Model())
    assert trace.error is not None
    assert "cannot serve the policy" in trace.error.message
    assert "at_end" in trace.error.message


async def test_a_programs_failure_without_a_limit_is_what_the_environment_makes_of_it() -> None:
    async def dies(gateway: Gateway) -> None:
        async with openai_client(gateway) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
        raise RuntimeError("the program exited with 1")

    trace = await run_rollout(Serves(dies), TASK, Model(calling(content="a")))
    assert trace.error is not None
    assert (trace.error.kind, trace.error.message) == ("env", "RuntimeError: the program exited with 1")
    assert len(trace.turns) == 1
