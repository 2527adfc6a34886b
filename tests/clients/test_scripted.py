"""Clients without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envkit import Environment, Message, ModelError, Rollout, Scripted, SingleTurnEnv, Task, run_rollout
from envkit.clients.base import Request
from envkit.clients.scripted import Nop, Oracle, Replay, call
from envkit.errors import UsageError
from envkit.runs import Manifest, RunWriter


def replay(path: Path, *rows: dict[str, Any]) -> Replay:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Replay(path)


async def say(client: Replay, task: str, *, sample: int = 0, call: int = 0, prompt: str = "?") -> str:
    request = Request([Message.user(prompt)], task=Task(id=task), sample=sample, call=call)
    return (await client.complete(request)).message.text


async def test_a_replay_answers_by_task_sample_and_call(tmp_path: Path) -> None:
    function = {"name": "f", "arguments": "{}"}
    turns = [
        {"role": "user", "content": "a?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": function}],
        },
        {"role": "tool", "content": "x", "tool_call_id": "1"},
        {"role": "assistant", "content": "second"},
    ]
    client = replay(
        tmp_path / "r.jsonl",
        {"task_id": "a", "sample": 0, "response": "a0"},
        {"task_id": "a", "sample": 1, "response": "a1"},
        {"task_id": "b", "sample": 0, "messages": turns, "response": None},
    )
    assert [await say(client, "a"), await say(client, "a", sample=1)] == ["a0", "a1"]
    assert await say(client, "b", call=1) == "second"
    first = await client.complete(Request([Message.user("?")], task=Task(id="b")))
    assert first.message.tool_calls[0].name == "f"


async def test_a_miss_is_a_model_error_that_names_it(tmp_path: Path) -> None:
    client = replay(tmp_path / "r.jsonl", {"task_id": "a", "sample": 0, "response": "x"})
    with pytest.raises(ModelError, match=r"no reply for task 'a': call 1 of agent 'policy' in sample 0"):
        await say(client, "a", call=1)
    with pytest.raises(ModelError, match="no reply for task 'z'"):
        await say(client, "z")


async def test_a_task_of_another_id_is_found_by_its_prompt_where_only_one_had_it(tmp_path: Path) -> None:
    rows = [{"task_id": i, "sample": 0, "prompt": p, "response": i} for i, p in (("a", "p"), ("b", "q"), ("c", "q"))]
    client = replay(tmp_path / "r.jsonl", *rows)
    assert await say(client, "other", prompt="p") == "a"
    with pytest.raises(ModelError):
        await say(client, "other", prompt="q")


def test_another_file_of_the_same_name_is_told_apart(tmp_path: Path) -> None:
    row = {"task_id": "a", "response": "x"}
    first = replay(tmp_path / "r.jsonl", row).about()
    assert replay(tmp_path / "r.jsonl", row).about() == first
    other = replay(tmp_path / "r.jsonl", row | {"response": "y"}).about()
    assert (other["model"], other["fingerprint"] == first["fingerprint"]) == (first["model"], False)


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"r\.jsonl:1 is no row of a replay"):
        replay(tmp_path / "r.jsonl", {"sample": 0})
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        Replay(tmp_path / "nothing.jsonl")


def test_rows_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    row = {"task_id": "a", "sample": 0, "response": "x", "run": "one"}
    replay(tmp_path / "same.jsonl", row, row)
    with pytest.raises(UsageError, match=r"r\.jsonl:2 has another reply for task 'a', sample 0"):
        replay(tmp_path / "r.jsonl", row, row | {"response": "y", "run": "two"})


async def test_a_line_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"task_id": "a", "response": "x"}\n{"task_id": "b", "resp')
    assert await say(Replay(path), "a") == "x"
    with pytest.raises(ModelError, match="no reply for task 'b'"):
        await say(Replay(path), "b")


async def test_a_run_of_our_own_can_be_replayed(tmp_path: Path) -> None:
    class Two(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            other = rollout.open("other")
            await other.generate((await rollout.chat.generate()).text)
            await rollout.chat.generate("and?")

    task = Task(id="t", prompt="hello")
    env = Two([task])
    first = await run_rollout(env, task, Scripted(["one", "two", "three"]))
    with RunWriter.create(tmp_path / "run", Manifest.begin("e", "m")) as run:
        run.append(first)
    again = await run_rollout(env, task, Replay(tmp_path / "run"))
    assert [turn.reply for turn in again.turns] == [turn.reply for turn in first.turns]


async def test_oracle_and_nop() -> None:
    task = Task(id="t", prompt="2+3?", answer=5)
    env = SingleTurnEnv([task])
    assert (await run_rollout(env, task, Oracle(env))).turns[0].reply.text == "5"
    assert (await run_rollout(env, task, Nop())).turns[0].reply.text == ""


async def test_a_script_that_ends_is_a_model_error() -> None:
    client = Scripted([call("f", a=1)])
    message = (await client.complete(Request([]))).message
    assert message.tool_calls[0].arguments == '{"a":1}'
    with pytest.raises(ModelError, match="no reply left"):
        await client.complete(Request([]))


HUMAN = """
import asyncio
from envkit import Message
from envkit.clients.base import Request
from envkit.clients.scripted import Human

async def main():
    human = Human()
    try:
        async with asyncio.timeout(0.2):
            await human.complete(Request([Message.user("one?")]))
    except TimeoutError:
        print("nobody", flush=True)
    if await asyncio.to_thread(lambda: True) and WAIT:
        print((await human.complete(Request([Message.user("\x1b[31mtwo?")]))).message.text)

asyncio.run(main())
"""


def test_a_person_who_does_not_answer_keeps_no_process_alive() -> None:
    code = HUMAN.replace("WAIT", "False")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as person:
        assert person.wait(20) == 0


def test_a_line_typed_after_a_cancelled_call_answers_the_next_one() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HUMAN.replace("WAIT", "True")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as person:  # fmt: skip
        assert person.stdout is not None
        assert person.stdout.readline() == "nobody\n"
        said, shown = person.communicate("here I am\n", timeout=20)
    assert said == "here I am\n"
    assert "[user] two?" in shown
    assert "\x1b" not in shown
