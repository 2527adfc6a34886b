"""HumanEval: the scores that were published for real replies, and the form in which replies are read."""

import pytest
from environments.replays import flips, recorded, replayed, right, scored, silent, total
from material import material

from envkit.packages.check import check
from envkit.packages.find import find

pytestmark = pytest.mark.usefixtures("isolated")
DATA = "data/HumanEval.jsonl.gz"
BODY = "    return [min(max(v, low), high) for v in values]\n"


@pytest.mark.parametrize("prompt", ["chat", "base"])
async def test_every_gate_is_passed(prompt: str) -> None:
    gates = await check(find("humaneval"), args={"prompt": prompt}, n=6)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_the_solutions_of_the_dataset_are_right_and_silence_is_wrong() -> None:
    assert total(await right("humaneval", str(material(DATA)))) == 164
    assert total(await silent("humaneval", str(material(DATA)))) == 0


@pytest.mark.parametrize(
    ("file", "prompt", "solved"),
    [
        ("humaneval__qwen2.5-coder-7b-base.jsonl", "base", 101),
        ("humaneval_instruct__llama-3-8b-instruct.jsonl", "chat", 105),
        ("humaneval_instruct__qwen2-7b-instruct.jsonl", "chat", 115),
    ],
)
async def test_replies_get_their_published_scores(file: str, prompt: str, solved: int) -> None:
    traces = await replayed("humaneval", file, str(material(DATA)), prompt=prompt)
    assert (flips(traces, recorded(file)), total(traces)) == ({}, solved)


def test_no_task_of_the_sample_is_in_the_dataset() -> None:
    theirs = {task.entry_point for task in find("humaneval").load(str(material(DATA))).tasks}
    ours = {task.entry_point for task in find("humaneval").load("sample").tasks}
    assert len(ours) == 24
    assert theirs
    assert not ours & theirs


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (BODY, 1.0),
        (BODY + "\ndef unfinished(", 1.0),
        (BODY + "\nprint(undefined)", 1.0),
        ("def clamp_all(values, low, high):\n" + BODY, 1.0),
        ("    return values\n", 0.0),
        ("return values\n", 0.0),
        (" \n", 0.0),
    ],
)
async def test_a_continuation_is_cut_where_it_has_left_the_function(reply: str, value: float) -> None:
    assert (await scored("humaneval", "sample/clamp_all", reply, prompt="base")).value == value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Sure!\n```python\ndef clamp_all(values, low, high):\n" + BODY + "```\nDone.", 1.0),
        ("```python\n" + BODY + "```", 1.0),
        ("```python\nfrom __future__ import annotations\ndef clamp_all(values, low, high):\n" + BODY + "```", 1.0),
        ("def clamp_all(values, low, high):\n" + BODY, 0.0),
        ("```python\nimport os\ndef clamp_all(*a):\n    os._exit(0)\n```", 0.0),
        (
            "```python\nclass Any(list):\n    def __eq__(self, other):\n        return True\n"
            "def clamp_all(*a):\n    return Any()\n```",
            0.0,
        ),
    ],
)
async def test_a_chat_reply_is_its_code_block(reply: str, value: float) -> None:
    assert (await scored("humaneval", "sample/clamp_all", reply)).value == value


@pytest.mark.parametrize(("reply", "prompt"), [(BODY, "base"), (" ", "base"), ("no code", "chat")])
async def test_a_score_says_what_ran_the_program_and_what_judged_it(reply: str, prompt: str) -> None:
    score = await scored("humaneval", "sample/clamp_all", reply, prompt=prompt)
    assert score.interpreter is not None
    assert score.interpreter.startswith("CPython 3.")
    assert score.judge is not None
