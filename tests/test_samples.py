"""Samples: what trains, under which context, over random episodes that run through the real lifecycle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine import MERGED, due, play, rendered, trained
from envkit import Message, Rollout, Task
from envkit.chat import Chat
from envkit.samples import samples
from envkit.trace import Trace

# Random episodes: a list of steps, each of which is done to one of the chats that are open by then.

few_words = st.lists(st.integers(1, 3), max_size=3)
scripts = st.fixed_dictionaries(
    {
        "says": few_words,
        "ends": st.booleans(),
        "merges": st.sampled_from([False, False, False, True]),
        "slow": st.integers(0, 3),
        "temperature": st.sampled_from([1.0, 0.5]),
    }
)
says = st.tuples(st.just("say"), st.integers(0, 9), few_words | st.none(), scripts)
steps = st.one_of(
    says,
    says,
    says,
    st.tuples(st.just("open"), st.sampled_from(["policy", "guest"]), st.booleans()),
    st.tuples(st.just("fork"), st.integers(0, 9)),
    st.tuples(st.just("freeze"), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("compact"), st.integers(0, 9), few_words),
    st.tuples(
        st.just("together"), st.lists(st.tuples(st.integers(0, 9), scripts), max_size=3, unique_by=lambda x: x[0])
    ),
)
episodes = st.lists(steps, max_size=14)


def episode_of(todo: Sequence[tuple[Any, ...]]) -> Callable[[Rollout[Task]], Awaitable[None]]:
    async def episode(rollout: Rollout[Task]) -> None:
        chats = [rollout.chat]
        for name, *rest in todo:
            await STEPS[name](rollout, chats, *rest)

    return episode


async def say(rollout: Rollout[Task], chats: list[Chat], at: int, user: list[int] | None, script: Any) -> None:
    chat = chats[at % len(chats)]
    await chat.generate(None if user is None else " ".join(map(str, user)), **script, trains=chat.trainable)


async def opened(rollout: Rollout[Task], chats: list[Chat], agent: str, trainable: bool) -> None:
    chats.append(rollout.open(agent, system="3", trainable=trainable))


async def fork(rollout: Rollout[Task], chats: list[Chat], at: int) -> None:
    chats.append(chats[at % len(chats)].fork())


async def freeze(rollout: Rollout[Task], chats: list[Chat], at: int) -> None:
    """Let a chat no longer train, or train again."""
    chat = chats[at % len(chats)]
    chat.trainable = not chat.trainable


async def drop(rollout: Rollout[Task], chats: list[Chat], at: int, which: int) -> None:
    messages = chats[at % len(chats)].messages
    if len(messages) > 1:
        del messages[which % len(messages)]


async def compact(rollout: Rollout[Task], chats: list[Chat], at: int, summary: list[int]) -> None:
    chat = chats[at % len(chats)]
    chat.messages = [chat.messages[0], Message.user(" ".join(map(str, summary)))]


async def together(rollout: Rollout[Task], chats: list[Chat], some: list[tuple[int, Any]]) -> None:
    await asyncio.gather(*(say(rollout, chats, at, None, script) for at, script in some))


STEPS = {
    "say": say,
    "open": opened,
    "fork": fork,
    "freeze": freeze,
    "drop": drop,
    "compact": compact,
    "together": together,
}


@settings(deadline=None, max_examples=300)
@given(episodes)
def test_every_trainable_token_trains_once_in_its_own_context(todo: list[tuple[Any, ...]]) -> None:
    trace, calls = asyncio.run(play(episode_of(todo)))
    batch = samples(trace)
    assert trained(batch) == due(calls)
    for sample in batch:
        each = (sample.ids, sample.mask, sample.logprobs, sample.temperatures, sample.versions)
        assert len({len(array) for array in each}) == 1
        off = [i for i, mask in enumerate(sample.mask) if not mask]
        assert all(sample.logprobs[i] == 0 and sample.temperatures[i] == 1 for i in off)
        assert all(sample.versions[i] is None for i in off)


@settings(deadline=None, max_examples=200)
@given(episodes)
def test_every_call_can_be_recovered(todo: list[tuple[Any, ...]]) -> None:
    trace, calls = asyncio.run(play(episode_of(todo)))
    for again in (
        trace,
        Trace.model_validate_json(trace.to_json()),
        Trace.model_validate_json(trace.model_dump_json()),
    ):
        assert again == trace
        for index, call in enumerate(calls):
            tokens = again.turns[index].tokens
            assert tokens is not None
            assert tuple(again.prompt_ids(index)) == call.prompt
            assert tuple(tokens.completion) == call.completion
            assert tuple(tokens.logprobs) == call.logprobs
            merges = any(token >= MERGED for token in call.prompt)
            assert rendered(again.prompt(index), merges=merges) == list(call.prompt[:-1])
        assert samples(again) == samples(trace)


@settings(deadline=None, max_examples=200)
@given(episodes)
def test_spans_are_where_each_completion_lies(todo: list[tuple[Any, ...]]) -> None:
    trace, calls = asyncio.run(play(episode_of(todo)))
    batch = samples(trace)
    for sample in batch:
        for begin, end, turn in sample.spans:
            assert tuple(sample.ids[:begin]) == calls[turn].prompt
            assert tuple(sample.ids[begin:end]) == calls[turn].completion
        trains = [i for begin, end, _ in sample.spans for i in range(begin, end)]
        assert trains == [i for i, mask in enumerate(sample.mask) if mask]
        assert sample.spans[-1][1] == len(sample.ids)
    spanned = sorted(turn for sample in batch for *_, turn in sample.spans)
    assert spanned == [i for i, call in enumerate(calls) if call.trains]


@settings(deadline=None, max_examples=200)
@given(episodes, st.integers(0, 40))
def test_max_len_keeps_alignment_and_says_what_it_dropped(todo: list[tuple[Any, ...]], max_len: int) -> None:
    trace, calls = asyncio.run(play(episode_of(todo)))
    whole, cut = samples(trace), samples(trace, max_len)
    assert len(cut) == len(whole)
    for before, after in zip(whole, cut, strict=True):
        kept = min(len(before.ids), max_len)
        assert (after.ids, after.mask, after.logprobs) == (
            before.ids[:kept],
            before.mask[:kept],
            before.logprobs[:kept],
        )
        assert (after.temperatures, after.versions) == (before.temperatures[:kept], before.versions[:kept])
        assert sum(after.mask) + after.dropped == sum(before.mask)
        assert all(end <= kept for _, end, _ in after.spans)
    assert sum(sum(s.mask) + s.dropped for s in cut) == sum(due(calls).values())


@settings(deadline=None)
@given(st.lists(st.tuples(few_words, few_words, st.booleans()), min_size=1, max_size=8))
def test_an_append_only_conversation_is_one_sample(exchanges: list[tuple[list[int], list[int], bool]]) -> None:
    async def episode(rollout: Rollout[Task]) -> None:
        for user, reply, ends in exchanges:
            await rollout.chat.generate(" ".join(map(str, user)), says=reply, ends=ends)

    trace, calls = asyncio.run(play(episode))
    (sample,) = samples(trace)
    assert tuple(sample.ids) == calls[-1].prompt + calls[-1].completion
    assert [turn for *_, turn in sample.spans] == list(range(len(calls)))
    assert sum(sample.mask) == sum(len(call.completion) for call in calls)
    assert trace.samples() == [sample]
