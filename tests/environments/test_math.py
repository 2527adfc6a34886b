"""The mathematics environments: their samples, their gates, and the scores that were published for real replies."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from material import material

from envkit import Message, ModelError
from envkit.clients.scripted import Replay, Scripted
from envkit.lifecycle import run_rollout
from envkit.packages.check import check
from envkit.packages.find import find
from envkit.trace import Trace

FILES = {"math-500": "math500.jsonl", "gsm8k": "gsm8k_test.jsonl", "aime-2024": "aime24.jsonl"}
NAMES = list(FILES)


async def replayed(name: str, file: str, data: str, **args: object) -> list[Trace]:
    env = find(name).load(data, **args)
    client = Replay(material(file))
    return [await run_rollout(env, task, client) for task in env.tasks]


def rewarded(traces: list[Trace]) -> float:
    assert {trace.outcome for trace in traces} == {"completed"}
    return sum(trace.reward or 0.0 for trace in traces)


@pytest.mark.parametrize(
    ("name", "args"), [*((name, {}) for name in NAMES), ("gsm8k", {"grader": "official"})], ids=str
)
async def test_every_gate_is_passed(name: str, args: dict[str, str]) -> None:
    gates = await check(find(name), args=args)
    assert [gate for gate in gates if gate.status != "passed"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_has_three_dozen_tasks(name: str) -> None:
    assert len(list(find(name).load("sample").tasks)) == 36


@pytest.mark.parametrize(("name", "file"), list(FILES.items()))
def test_no_task_of_the_sample_is_in_the_dataset(name: str, file: str) -> None:
    package = find(name)
    theirs = {re.sub(r"\W", "", str(task.prompt)) for task in package.load(str(material(f"data/{file}"))).tasks}
    assert len(theirs) == {"math-500": 500, "gsm8k": 1319, "aime-2024": 30}[name]
    ours = {re.sub(r"\W", "", str(task.prompt)) for task in package.load("sample").tasks}
    assert not ours & theirs


@pytest.mark.parametrize(("name", "file"), list(FILES.items()))
async def test_every_gold_of_the_dataset_is_read(name: str, file: str) -> None:
    gates = {gate.name: gate for gate in await check(find(name), data=str(material(f"data/{file}")), n=60)}
    assert [gate for gate in gates.values() if gate.status != "passed"] == []


@pytest.mark.parametrize(("model", "solved"), [("openai_6b_finetuning", 286), ("openai_175b_verification", 742)])
async def test_gsm8k_gives_the_published_score(model: str, solved: int) -> None:
    file = f"replay/gsm8k__{model}.jsonl"
    traces = await replayed("gsm8k", file, f"replay:{material(file)}", grader="official")
    assert (len(traces), rewarded(traces)) == (1319, solved)


async def test_a_replay_is_found_by_its_prompt_where_ids_differ() -> None:
    file, data = "replay/gsm8k__openai_6b_finetuning.jsonl", str(material("data/gsm8k_test.jsonl"))
    traces = await replayed("gsm8k", file, data, grader="official")
    assert (len(traces), rewarded(traces)) == (1319, 286)


async def test_math_gives_the_published_score() -> None:
    """560 replies to 70 problems, 507 of them recorded as correct, and one more that is: a `10{,}000` for 10,000."""
    file = material("replay/math__qwen_cot_100x8.jsonl")
    recorded = {(row["task_id"], row["sample"]): row for row in map(json.loads, file.open())}
    env, client = find("math-500").load(f"replay:{file}"), Replay(file)
    traces = [await run_rollout(env, task, client, sample=sample) for task in env.tasks for sample in range(8)]
    assert len(traces) == len(recorded) == 560
    assert rewarded(traces) - sum(row["expected_score"] for row in recorded.values()) in (0, 1)
    for trace in traces:
        row = recorded[trace.task_id, trace.sample]
        assert trace.reward == row["expected_score"] or "10{,}000" in row["response"], trace.task_id


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        ("#### 1,234", 1.0),
        ("First #### 1234 and then #### 5", 1.0),
        ("#### 1234.", 0.0),
        ("####1234", 0.0),
        ("\\boxed{1234}", 0.0),
        ("#### $1234", 0.0),
    ],
)
async def test_the_official_rule_is_kept_to_the_letter(reply: str, reward: float, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "How many?", "answer": "So many.\\n#### 1,234"}\n')
    env = find("gsm8k").load(str(rows), grader="official")
    [task] = env.tasks
    trace = await run_rollout(env, task, Scripted([reply]))
    assert trace.reward == reward


async def test_strict_and_lenient_are_both_recorded() -> None:
    env = find("math-500").load("sample")
    task = next(iter(env.tasks))
    trace = await run_rollout(env, task, Scripted([f"The answer is {task.answer}."]))
    assert (trace.reward, trace.metrics) == (0.0, {"correct_lenient": 1.0})
    assert env.prompt_id is not None


def test_a_row_without_its_mark_is_named(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "How many?", "answer": "Three."}\n')
    with pytest.raises(Exception, match=rf"{rows}:1: the answer has no line '#### NUMBER'"):
        list(find("gsm8k").load(str(rows)).tasks)


async def test_a_judge_is_asked_only_where_the_grader_is_undecided() -> None:
    env = find("math-500").load("sample", judge=True)
    first = next(iter(env.tasks))
    asked: list[str] = []

    def judge(messages: Sequence[Message]) -> str:
        asked.append(messages[-1].text)
        return "Yes."

    async def run(answer: str, reply: str, says: Any = judge) -> Trace:
        task = first.model_copy(update={"answer": answer})
        return await run_rollout(env, task, {"policy": Scripted([reply]), "judge": Scripted(says)})

    assert (await run("4", "\\boxed{4}")).reward == 1.0
    assert (await run("4", "\\boxed{5}")).reward == 0.0
    assert asked == []
    trace = await run("x = = 3", "\\boxed{4}")
    assert trace.reward == 1.0
    assert len(trace.judging) == len(asked) == 1
    assert "x = = 3" in asked[0]
    failed = await run("x = = 3", "\\boxed{4}", [ModelError("down")])
    assert (failed.outcome, failed.reward) == ("completed", None)


def test_without_a_judge_no_role_is_needed() -> None:
    assert find("math-500").load("sample").roles == ()
    assert find("math-500").load("sample", judge=True).roles == ("judge",)


@pytest.mark.parametrize(("name", "args"), [("math-500", {}), ("gsm8k", {"grader": "official"})])
async def test_a_gold_may_be_a_number_and_otherwise_must_be_text(
    name: str, args: dict[str, str], tmp_path: Path
) -> None:
    golds = [2, 2.5, "2", [2], None]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(f'{{"task_id": "t{n}", "prompt": "?", "gold": {json.dumps(g)}}}\n' for n, g in enumerate(golds))
    )
    env = find(name).load(f"replay:{rows}", **args)
    traces = [await run_rollout(env, task, Scripted(["\\boxed{2}\n#### 2"])) for task in env.tasks]
    assert [trace.reward for trace in traces] == [1.0, 0.0, 1.0, None, None]
    assert [trace.error.message for trace in traces if trace.error] == [
        "the answer of task 't3' is no text and no number, but [2]",
        "the answer of task 't4' is no text and no number, but None",
    ]


def test_a_gold_of_ones_own_rows_may_be_a_number(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"problem": "1+1?", "answer": 2, "unique_id": "a"}\n')
    assert [task.answer for task in find("math-500").load(str(rows)).tasks] == [2]
    rows.write_text('{"question": "1+1?", "answer": 2}\n')
    with pytest.raises(Exception, match=rf"{rows}:1: the answer has no line '#### NUMBER'"):
        list(find("gsm8k").load(str(rows)).tasks)
