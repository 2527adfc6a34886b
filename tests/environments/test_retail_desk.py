"""retail-desk: the right actions are paid, and nothing else is; desks share nothing; seeds make the same world."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from environments.cuts import cut_everywhere

from envkit import Message, Scripted, Trace, run_group, run_rollout
from envkit.clients.scripted import Nop, Oracle
from envkit.packages.check import check
from envkit.packages.find import find
from envkit.types import ToolCall


def load(**args: Any) -> Any:
    return find("retail-desk").load(**args)


def modules() -> Any:
    """The package's modules, under whatever name they were loaded."""
    return sys.modules[type(load()).__module__]


def said(steps: Sequence[Any]) -> Scripted:
    """An agent that says and does these, and repeats its last words."""

    def reply(messages: Sequence[Message]) -> Message:
        made = sum(message.role == "assistant" for message in messages)
        step = steps[min(made, len(steps) - 1)]
        if isinstance(step, str):
            return Message.assistant(step)
        return Message.assistant(
            tool_calls=(ToolCall(id=f"call_{made}", name=step.name, arguments=json.dumps(step.arguments)),)
        )

    return Scripted(reply)


async def resolved(env: Any, task: Any, steps: Sequence[Any]) -> float | None:
    trace = await run_rollout(env, task, said(steps))
    assert trace.error is None, trace.error
    return trace.reward


def one_of_each(n: int = 1) -> list[tuple[Any, list[Any]]]:
    """Tasks, n of each family, with what a good agent says and does."""
    env = load(n=13 * n)
    return [(task, list(modules().oracle.conversation(task))) for task in env.tasks]


async def test_every_gate_is_passed() -> None:
    gates = await check(find("retail-desk"), n=13)
    assert [gate for gate in gates if gate.status == "failed"] == []


async def test_the_oracle_resolves_every_task_and_silence_none() -> None:
    env = load()
    tasks = list(env.tasks)
    assert len(tasks) == 130
    assert len({task.family for task in tasks}) == 13
    right: list[Trace] = [await run_rollout(env, task, Oracle(env)) for task in tasks]
    assert {trace.task_id: trace.scores for trace in right if trace.reward != 1.0} == {}
    silent = [await run_rollout(env, task, Nop()) for task in tasks]
    assert {trace.reward for trace in silent} == {0.0}


async def test_it_may_be_cut_at_every_turn() -> None:
    env = load(n=13)
    cut = await cut_everywhere(env, list(env.tasks), Oracle(env))
    for traces in cut.values():
        assert traces[0].reward == 0.0
        assert traces[-1].reward == 1.0


async def test_it_may_be_cut_at_every_turn_where_a_model_is_the_customer() -> None:
    env = load(user="model", n=13)
    cut = await cut_everywhere(env, list(env.tasks), Oracle(env), models={"user": Oracle(env, "user")})
    for traces in cut.values():
        assert len(traces) > 4
        assert traces[0].reward == 0.0
        assert traces[-1].reward == 1.0


async def test_a_customer_who_never_stops_ends_with_the_turns_of_the_desk() -> None:
    env = load(user="model", n=1)
    numbers = itertools.count()
    models = {
        "policy": Scripted(lambda _: f"Which order is it, {next(numbers)}?"),
        "user": Scripted(lambda messages: f"Hmm, {len(messages)}."),
    }
    trace = await run_rollout(env, next(iter(env.tasks)), models)
    assert (trace.error, trace.outcome, trace.stop, trace.reward) == (None, "truncated", "max_turns", 0.0)
    assert len(trace.replies()) == len(trace.replies("user")) == env.limits.max_turns


async def test_an_action_that_is_left_out_or_made_twice_is_not_paid() -> None:
    env = load()
    tried = 0
    for task, steps in one_of_each(2):
        gold = [action for errand in task.errands for action in errand.final.actions]
        for i, step in enumerate(steps):
            if isinstance(step, str) or step not in gold:
                continue
            tried += 1
            assert await resolved(env, task, [*steps[:i], *steps[i + 1 :]]) == 0.0, (task.id, step)
            twice = await resolved(env, task, [*steps[: i + 1], *steps[i:]])
            refused = step.name not in ("decline_request", "transfer_to_human", "apply_late_credit")
            assert twice == 0.0 or refused, (task.id, step)
    assert tried >= 20


async def test_a_figure_that_is_not_said_is_not_paid() -> None:
    env = load()
    tried = 0
    for task, steps in one_of_each(2):
        if any(errand.final.said for errand in task.errands):
            tried += 1
            mute = ["".join(c for c in s if not c.isdigit()) if isinstance(s, str) else s for s in steps]
            assert await resolved(env, task, mute) == 0.0, task.id
    assert tried >= 8


@pytest.mark.parametrize("blindly", [False, True])
async def test_refusing_or_handing_over_everything_is_not_paid(blindly: bool) -> None:
    """Neither at once nor after look-ups of somebody whom nobody asked about, and be it for the right reason."""
    env, act, names = load(n=26), modules().oracle.act, modules().desk.DECISIONS
    anybody = [
        act("find_customer_by_email", email="somebody@mail.example"),
        act("find_customer_by_name_zip", first_name="Some", last_name="Body", zip_code="10400"),
    ]
    always = [act("decline_request", reason="identity_not_verified"), act("transfer_to_human", reason="faulty_item")]
    right = 0
    for task in env.tasks:
        gold = [a for errand in task.errands for a in errand.final.actions if a.name in names]
        right += len(gold)
        for decision in [*always, *gold]:
            tried = [*(anybody if blindly else []), decision, "I am sorry, that cannot be done. Anything else?"]
            assert await resolved(env, task, tried) == 0.0, (task.id, decision)
    assert right >= 5


async def test_a_refusal_before_the_look_up_is_not_paid_and_one_way_of_the_two_is_enough_where_it_finds() -> None:
    env, act = load(), modules().oracle.act
    refused = 0
    for task, steps in one_of_each(2):
        caller = task.caller
        names = {"first_name": caller.first_name, "last_name": caller.last_name, "zip_code": caller.zip_code}
        by_name = act("find_customer_by_name_zip", **names)
        gold = [i for i, step in enumerate(steps) if getattr(step, "name", "") in modules().desk.DECISIONS]
        if not gold:
            continue
        refused += 1
        lookups = [step for step in steps if getattr(step, "name", "").startswith("find_")]
        rest = [step for step in steps[gold[0] + 1 :] if step not in lookups]
        said = [step for step in steps[: gold[0]] if step not in lookups]
        assert await resolved(env, task, [*said, steps[gold[0]], *lookups, *rest]) == 0.0, task.id
        only = await resolved(env, task, [by_name, *said, steps[gold[0]], *rest])
        assert only == float(caller.customer_id is not None), task.id
    assert refused >= 5


async def test_to_tell_all_that_there_is_answers_no_question() -> None:
    env = load(families=("information",), n=40)
    for task in env.tasks:
        shop = modules().tasks.shop(task.shop)
        [account] = [account for account in shop.accounts if account.id == task.caller.customer_id]
        all_of_it = list(dict.fromkeys([*account.figures(without=set()), *task.errands[0].final.said]))
        told = [f"It is one of {', '.join(all_of_it[i : i + 3])}. Which?" for i in range(0, len(all_of_it), 3)]
        assert await resolved(env, task, [*told, "Is there anything else?"]) == 0.0, task.id
        [order] = [order for order in account.orders if order.id == task.errands[0].order_id] or [None]
        if order is not None:
            both = f"The total is ${order.total / 100:.2f}, delivered on {order.delivered}, tracking {order.tracking}."
            asked = "Is there anything else?"
            assert await resolved(env, task, [both, asked]) == float(not (order.delivered or order.tracking)), task.id


async def test_a_question_keeps_nobody_from_telling_figures_of_another_request() -> None:
    env = load(families=("several",), n=60)
    told = 0
    for task in env.tasks:
        questions = [errand for errand in task.errands if errand.unsaid]
        about = {errand.order_id for errand in task.errands} - {question.order_id for question in questions}
        shop = modules().tasks.shop(task.shop)
        [account] = [account for account in shop.accounts if account.id == task.caller.customer_id]
        mine = [order for order in account.orders if order.id in about and order.delivered]
        if questions and mine:
            told += 1
            steps = list(modules().oracle.conversation(task))
            steps[-1] = f"It was delivered on {mine[0].delivered}. {steps[-1]}"
            assert await resolved(env, task, steps) == 1.0, task.id
    assert told >= 3


async def test_a_declined_request_that_is_done_anyway_is_not_paid() -> None:
    env = load(families=("forbidden",), n=12)
    act = modules().oracle.act
    done = 0
    for task in env.tasks:
        steps = list(modules().oracle.conversation(task))
        order = task.errands[0].final.order_id
        if order is None:
            continue
        done += 1
        more = act("cancel_order", order_id=order, reason="no_longer_needed")
        changed = await run_rollout(env, task, said([*steps[:-1], more, steps[-1]]))
        if changed.tools["cancel_order"].errors == 0:
            assert changed.reward == 0.0, task.id
    assert done >= 3


async def test_what_is_no_name_finds_nobody_and_harms_nothing() -> None:
    env = load(families=("cancel",), n=1)
    [task] = env.tasks
    steps = list(modules().oracle.conversation(task))
    act = modules().oracle.act
    hostile = [
        act("find_customer_by_email", email="x' OR '1'='1"),
        act("find_customer_by_name_zip", first_name="a'; DROP TABLE orders; --", last_name="b", zip_code="0"),
        act("get_order", order_id="' UNION SELECT 1 --"),
    ]
    trace = await run_rollout(env, task, said([*hostile, *steps]))
    assert trace.reward == 1.0, trace.scores
    assert sum(use.errors for use in trace.tools.values()) == 3


async def test_desks_at_once_share_nothing() -> None:
    env = load(families=("several",), n=20, requests=4)
    traces = await asyncio.gather(*(run_group(env, task, Oracle(env), 2) for task in env.tasks))
    assert {trace.reward for group in traces for trace in group} == {1.0}


def test_a_seed_makes_the_same_tasks_and_world_in_every_process() -> None:
    code = (
        "import hashlib; from envkit.packages.find import find\n"
        "env = find('retail-desk').load(n=26, seed=3)\n"
        "from envkit import Message\n"
        "print(hashlib.sha256(repr([(t.hash, [env.oracle(t, [Message.user('?')] * i).text for i in range(3)]) "
        "for t in env.tasks]).encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1
    ids = [task.id for task in load(n=26, seed=4).tasks]
    assert len(set(ids)) == 26
    assert {task.hash for task in load(n=26, seed=3).tasks}.isdisjoint(task.hash for task in load(n=26, seed=4).tasks)


def test_a_split_and_a_seed_have_a_shop_of_their_own() -> None:
    shops = {(split, seed): load(split=split, seed=seed, n=2) for split in ("test", "train") for seed in (0, 1)}
    people, prices, places = set[Any](), set[Any](), set[str]()
    for env in shops.values():
        [place] = {task.shop for task in env.tasks}
        shop = modules().tasks.shop(place)
        places.add(place)
        people.add(tuple((a.first_name, a.last_name, a.email) for a in shop.accounts))
        prices.add(tuple(item.price for item in shop.items.values()))
        assert len(shop.accounts) == len({(a.first_name, a.last_name) for a in shop.accounts}) == 320
    assert len(places) == len(people) == len(prices) == 4


async def test_tasks_of_two_shops_are_scored_by_their_own() -> None:
    for args in ({"seed": 7, "n": 26}, {"split": "train", "n": 26}):
        env = load(**args)
        rewards = {(await run_rollout(env, task, Oracle(env))).reward for task in env.tasks}
        assert rewards == {1.0}


async def test_a_model_may_be_the_customer() -> None:
    env = load(user="model", n=13)
    assert env.roles == ("user",)
    for task in list(env.tasks)[:4]:
        trace = await run_rollout(env, task, {"policy": Oracle(env), "user": Oracle(env, "user")})
        assert trace.error is None, trace.error
        assert trace.reward == 1.0, trace.scores
        assert {turn.agent for turn in trace.turns} == {"policy", "user"}
        assert not any(turn.trainable for turn in trace.turns if turn.agent == "user")


@pytest.mark.parametrize("wrong", [{"n": 0}, {"requests": 0}])
def test_there_is_at_least_one(wrong: dict[str, int]) -> None:
    from envkit.errors import UsageError

    with pytest.raises(UsageError):
        load(**wrong)
