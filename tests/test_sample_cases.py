"""Samples of episodes that are named: branches, frozen chats, rewards by agent, what is refused, and what it costs."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from engine import END, MARK, TASK, Engine, Run, play
from envkit import Message, Rollout, Services, Task, run_rollout
from envkit.clients.base import Client, Completion, Request
from envkit.samples import Sample, samples


async def test_an_append_only_conversation_in_full() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate(says=[5, 6], temperature=0.5)
        await rollout.chat.generate("7", says=[8])

    trace, _ = await play(episode, rewards=[half])
    (sample,) = samples(trace)
    user, bot = MARK["user"], MARK["assistant"]
    assert sample == Sample(
        ids=array("i", [user, 1, 2, END, bot, 5, 6, END, user, 7, END, bot, 8, END]),
        mask=array("b", [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1]),
        logprobs=array("f", [0, 0, 0, 0, 0, -1, -2, -3, 0, 0, 0, 0, -4, -5]),
        temperatures=array("f", [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1]),
        versions=[None] * 5 + ["step-0"] * 3 + [None] * 4 + ["step-0"] * 2,
        agent="policy",
        reward=0.5,
        truncated=False,
        spans=((5, 8, 0), (12, 14, 1)),
    )


async def test_what_two_branches_share_trains_in_the_first_only() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate(says=[5])
        other = rollout.chat.fork()
        await rollout.chat.generate("6", says=[7])
        await other.generate("8", says=[9])

    trace, _ = await play(episode)
    first, second = samples(trace)
    assert [first.mask.tolist(), second.mask.tolist()] == [
        [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    ]
    assert (first.spans, second.spans) == (((5, 7, 0), (11, 13, 1)), ((11, 13, 2),))


async def test_a_frozen_branch_takes_nothing_from_the_one_that_trains() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate(says=[5])
        aside = rollout.chat.fork()
        aside.trainable = False
        await aside.generate("4", says=[6], trains=False)
        await rollout.chat.generate("7", says=[8])

    trace, calls = await play(episode)
    (sample,) = samples(trace)
    assert tuple(sample.ids) == calls[2].prompt + calls[2].completion
    assert sample.spans == ((5, 7, 0), (11, 13, 2))


async def test_what_a_frozen_turn_said_between_two_that_train_is_context() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate(says=[5])
        rollout.chat.trainable = False
        await rollout.chat.generate("6", says=[7], trains=False)
        await rollout.chat.generate("8", says=[9], trains=False)
        rollout.chat.trainable = True
        await rollout.chat.generate("10", says=[11])

    trace, calls = await play(episode)
    (sample,) = samples(trace)
    assert tuple(sample.ids) == calls[3].prompt + calls[3].completion
    assert sample.spans == ((5, 7, 0), (23, 25, 3))


async def test_a_sample_ends_with_what_trains() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate(says=[5])
        rollout.chat.trainable = False
        await rollout.chat.generate("6", says=[7], trains=False)

    trace, calls = await play(episode)
    (sample,) = samples(trace)
    assert tuple(sample.ids) == calls[0].prompt + calls[0].completion


async def test_what_a_frozen_chat_said_is_context_of_the_agent_that_goes_on() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        rollout.chat.trainable = False
        await rollout.chat.generate(says=[5], trains=False)
        rollout.chat.trainable = True
        await rollout.chat.generate("6", says=[7])

    trace, _ = await play(episode)
    (sample,) = samples(trace)
    assert sample.mask.tolist() == [0] * 11 + [1, 1]
    assert sample.spans == ((11, 13, 1),)


async def test_a_retokenised_prompt_begins_a_new_sample() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate(says=[5, 6])
        await rollout.chat.generate("7", says=[8], merges=True)

    trace, calls = await play(episode)
    assert [tuple(s.ids) for s in samples(trace)] == [c.prompt + c.completion for c in calls]
    assert trace.turns[1].parent is None
    assert [m.text for m in trace.prompt(1)] == ["1 2", "5 6", "7"]


async def test_a_sample_that_max_len_leaves_nothing_of_is_still_there() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate(says=[5, 6])

    trace, _ = await play(episode)
    (sample,) = samples(trace, max_len=3)
    assert (len(sample.ids), sum(sample.mask), sample.spans, sample.dropped) == (3, 0, (), 3)
    assert samples(trace, max_len=5)[0].spans == ()
    (sample,) = samples(trace, max_len=6)
    assert (len(sample.ids), sum(sample.mask), sample.spans, sample.dropped) == (6, 1, ((5, 6, 0),), 2)
    assert samples(trace, max_len=8)[0].dropped == 0
    with pytest.raises(ValueError, match="max_len is -1"):
        samples(trace, max_len=-1)


def half(rollout: Rollout[Task]) -> float:
    return 0.5


def versus(rollout: Rollout[Task]) -> dict[str, float]:
    return {"policy": 1.0, "guest": -1.0}


def undecided(rollout: Rollout[Task]) -> None:
    return None


def raises(rollout: Rollout[Task]) -> float:
    raise ValueError("no verdict")


async def three_agents(rollout: Rollout[Task]) -> None:
    await rollout.chat.generate()
    await rollout.open("guest").generate("4")
    await rollout.open("other").generate("4")


@pytest.mark.parametrize(
    ("rewards", "each"),
    [
        ([versus], {"policy": 1.0, "guest": -1.0, "other": None}),
        ([half], {"policy": 0.5, "guest": None, "other": None}),
        ([versus, undecided], {"policy": None, "guest": None, "other": None}),
        ([], {"policy": None, "guest": None, "other": None}),
    ],
)
async def test_each_agent_has_its_own_reward(rewards: list[Any], each: dict[str, float | None]) -> None:
    trace, _ = await play(three_agents, rewards=rewards)
    assert {sample.agent: sample.reward for sample in samples(trace)} == each


async def test_a_failed_rollout_has_no_reward_for_anyone() -> None:
    models = Services({"policy": Engine()}, tokens=True)
    trace = await run_rollout(Run(three_agents, rewards=[versus, raises]), TASK, models)
    assert trace.outcome == "failed"
    assert [(sample.reward, sample.truncated) for sample in samples(trace)] == [(None, False)] * 3


async def test_truncated_is_told() -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        while True:
            await rollout.chat.generate("3")

    trace, calls = await play(episode)
    (sample,) = samples(trace)
    assert (len(calls), sample.truncated, len(sample.spans)) == (100, True, 100)


async def test_without_tokens_it_says_how_to_get_them() -> None:
    class Plain(Client):
        async def complete(self, request: Request) -> Completion:
            return Completion(Message.assistant("5"))

    async def frozen(rollout: Rollout[Task]) -> None:
        await rollout.open("guest", trainable=False).generate("4")

    async def spoken(rollout: Rollout[Task]) -> None:
        await rollout.chat.generate()

    assert samples(await run_rollout(Run(frozen), TASK, Plain())) == []
    trace = await run_rollout(Run(spoken), TASK, Plain())
    with pytest.raises(ValueError, match=r"turn 0 .*'policy'.* no token ids.*tokens=True"):
        samples(trace)


async def test_an_engine_that_gives_no_logprobs_is_a_model_error() -> None:
    class Mute(Engine):
        async def complete(self, request: Request) -> Completion:
            return replace(await super().complete(request), logprobs=None)

    models = Services({"policy": Mute()}, tokens=True)
    trace = await run_rollout(Run(lambda rollout: rollout.chat.generate()), TASK, models)
    assert trace.error is not None
    assert (trace.error.kind, trace.turns) == ("model", [])


@pytest.mark.parametrize(("sampling", "recorded"), [({}, 1.0), ({"temperature": None}, 1.0), ({"temperature": 0}, 0.0)])
async def test_a_temperature_that_was_not_sent_is_one(sampling: dict[str, Any], recorded: float) -> None:
    class Sent(Engine):
        async def complete(self, request: Request) -> Completion:
            return replace(await super().complete(request), sampling=sampling)

    models = Services({"policy": Sent()}, tokens=True)
    trace = await run_rollout(Run(lambda rollout: rollout.chat.generate()), TASK, models)
    (sample,) = samples(trace)
    assert set(sample.temperatures[sample.mask.index(1) :]) == {recorded}


async def test_a_record_with_a_logprob_missing_is_refused() -> None:
    trace, _ = await play(lambda rollout: rollout.chat.generate(says=[5, 6]))
    tokens = trace.turns[0].tokens
    assert tokens is not None
    del tokens.logprobs[-1]
    with pytest.raises(ValueError, match="one logprob for each sampled token"):
        samples(trace)


CONTEXT, TURNS = 64_000, 40


async def long_conversation(rollout: Rollout[Task]) -> None:
    for turn in range(TURNS):
        await rollout.chat.generate(f"{turn} 1 2", says=[turn % 1000] * 50)


async def many_branches(rollout: Rollout[Task]) -> None:
    await rollout.chat.generate(says=[5] * 50)
    for turn in range(TURNS):
        await rollout.chat.fork().generate(f"{turn} 1 2", says=[turn % 1000] * 50)


@pytest.mark.parametrize("episode", [long_conversation, many_branches])
async def test_a_long_context_costs_what_is_new_in_each_turn(
    episode: Callable[[Rollout[Task]], Awaitable[None]],
) -> None:
    task = Task(id="long", prompt=" ".join(str(i % 1000) for i in range(CONTEXT)))
    trace, calls = await play(episode, task)
    new = len(calls[0].prompt) + sum(len(call.completion) + 10 for call in calls)
    # A token is 4 bytes of ids and, if sampled, 4 of logprobs, in base64; text is below 4 bytes a token here.
    assert len(trace.to_json()) < 10 * new + 400 * len(calls)
    batch = samples(trace)
    assert sum(len(s.ids) for s in batch) == sum(len(c.prompt + c.completion) for c in calls[-len(batch) :])
    assert sum(sum(sample.mask) for sample in batch) == sum(len(call.completion) for call in calls)
