"""CRUXEval: the scores that were published for real replies, and how predictions are read."""

import json
from pathlib import Path

import pytest
from environments.replays import flips, recorded, replayed, scored, total
from material import rows

from envkit.packages.check import check
from envkit.packages.find import find

pytestmark = pytest.mark.usefixtures("isolated")
FILE = "cruxeval_{}__qwen2.5-coder-7b-base.jsonl"


@pytest.mark.parametrize("task", ["output", "input"])
async def test_every_gate_is_passed(task: str) -> None:
    gates = await check(find("cruxeval"), args={"task": task}, n=8)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_predicted_outputs_get_their_published_scores() -> None:
    file = FILE.format("o")
    traces = await replayed("cruxeval", file, task="output")
    assert (flips(traces, recorded(file)), total(traces)) == ({}, 448)


@pytest.mark.slow
async def test_predicted_inputs_get_their_published_scores() -> None:
    """And seven more: the published run used Python 3.8, which has no str.removeprefix and removesuffix."""
    file = FILE.format("i")
    traces = await replayed("cruxeval", file, task="input")
    changed = flips(traces, recorded(file))
    assert (len(changed), set(changed.values()), total(traces)) == (7, {1.0}, 459)
    assert all(".remove" in traces[name].task.answer.code for name in changed)


@pytest.mark.parametrize(("letter", "task"), [("o", "output"), ("i", "input")])
def test_the_prompts_are_those_of_the_published_runs(letter: str, task: str, tmp_path: Path) -> None:
    recorded_rows = rows(f"replay/{FILE.format(letter)}")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"id": r["task_id"], **r["gold"]}) + "\n" for r in recorded_rows))
    prompts = {t.id: str(t.prompt).strip() for t in find("cruxeval").load(str(data), task=task).tasks}
    assert prompts == {r["task_id"]: r["prompt"].strip() for r in recorded_rows}


@pytest.mark.parametrize(
    ("task", "reply"),
    [
        ("output", "[ANSWER]5[/ANSWER]"),
        ("output", "5" * 200_000),
        ("input", "no call"),
        ("input", "[ANSWER]assert f(object()) == 5[/ANSWER]"),
        ("input", "[ANSWER]assert f(1 / 0) == 5[/ANSWER]"),
    ],
)
async def test_a_score_says_what_ran_the_program_and_what_judged_it(task: str, reply: str) -> None:
    score = await scored("cruxeval", "sample/8", reply, task=task)
    assert (score.interpreter or "").startswith("CPython 3.")
    assert score.judge is not None


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("[THOUGHT]\nIt is 9.\n[/THOUGHT]\n[ANSWER]\nassert f('palette') == 5\n[/ANSWER]", 1.0),
        ("[ANSWER]5[/ANSWER]", 1.0),
        ("assert f('palette') == 5", 1.0),
        ("[ANSWER]\nassert f('palette') == 4\n[/ANSWER] [ANSWER] 5 [/ANSWER]", 0.0),
        ("[ANSWER]\nassert f('palette') == f('palette')\n[/ANSWER]", 0.0),
        ("[ANSWER]\nassert f('palette') == 2 + 3\n[/ANSWER]", 0.0),
        ("[ANSWER]\nassert f('palette') == __import__('os')._exit(0)\n[/ANSWER]", 0.0),
        ("", 0.0),
    ],
)
async def test_an_output_is_a_literal(reply: str, value: float) -> None:
    assert (await scored("cruxeval", "sample/8", reply, task="output")).value == value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("[ANSWER]\nassert f('palette') == 5\n[/ANSWER]", 1.0),
        ("[ANSWER]\nassert f('abcdea') == 5\n[/ANSWER]", 1.0),
        ("[ANSWER]\nassert f(text='abcde' + 'a') == 5\n[/ANSWER]", 1.0),
        ("[ANSWER]\nassert f('abc') == 5\n[/ANSWER]", 0.0),
        ("[ANSWER]\nassert f(f.__setattr__('__code__', (lambda *a: 5).__code__)) == 5\n[/ANSWER]", 0.0),
        ("[ANSWER]\nassert f(type('E', (str,), {'__eq__': lambda a, b: True})()) == 5\n[/ANSWER]", 0.0),
        ("[ANSWER]\nassert f('x') and 5 == 5\n[/ANSWER]", 0.0),
        ("[ANSWER]\nassert f(__import__('collections').deque([object()])) == 5\n[/ANSWER]", 0.0),
        ("[ANSWER]\n5 == 5 # f(\n[/ANSWER]", 0.0),
        ("", 0.0),
    ],
)
async def test_an_input_is_a_call_that_is_then_made(reply: str, value: float) -> None:
    assert (await scored("cruxeval", "sample/8", reply, task="input")).value == value
