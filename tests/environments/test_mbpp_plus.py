"""MBPP+: the scores that were published for real replies, and EvalPlus's rules of comparison."""

import json
from pathlib import Path
from typing import Any

import pytest
from environments.replays import flips, recorded, replayed, right, rollouts, scored, silent, total
from material import material

from envkit.clients.scripted import Scripted
from envkit.errors import UsageError
from envkit.packages.check import check
from envkit.packages.find import find

pytestmark = pytest.mark.usefixtures("isolated")
DATA, REPLAY = "data/mbpp_plus.jsonl", "mbpp_plus__qwen2.5-coder-7b-base.jsonl"


@pytest.mark.parametrize("prompt", ["chat", "base"])
async def test_every_gate_is_passed(prompt: str) -> None:
    gates = await check(find("mbpp-plus"), args={"prompt": prompt}, n=6)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_the_references_are_right_and_silence_is_wrong_on_the_base_inputs() -> None:
    assert total(await right("mbpp-plus", str(material(DATA)), inputs="base")) == 399
    assert total(await silent("mbpp-plus", str(material(DATA)), inputs="base")) == 0


async def test_replies_get_their_published_scores() -> None:
    """And three more: those tasks' results count as sets since, and had not then."""
    traces = await replayed("mbpp-plus", REPLAY, str(material(DATA)), prompt="base", inputs="base")
    changed = flips(traces, recorded(REPLAY))
    assert changed == {"Mbpp/111": 1.0, "Mbpp/2": 1.0, "Mbpp/232": 1.0}
    assert total(traces) == 310


def test_no_task_of_the_sample_is_in_the_dataset() -> None:
    theirs = {task.entry_point for task in find("mbpp-plus").load(str(material(DATA))).tasks}
    ours = {task.entry_point for task in find("mbpp-plus").load("sample").tasks}
    assert len(ours) == 24
    assert theirs
    assert not ours & theirs


async def judged(tmp_path: Path, function: str, reference: str, reply: str, **fields: Any) -> float | None:
    """The reward of a reply to a task made up here, called without arguments unless told otherwise."""
    row = {
        "task_id": f"own/{function}", "prompt": f'"""\n{function}\n"""\n', "entry_point": function,
        "canonical_solution": reference, "base_input": [[]], "plus_input": [], "atol": 0, **fields,
    }  # fmt: skip
    data = tmp_path / "row.jsonl"
    data.write_text(json.dumps(row) + "\n")
    env = find("mbpp-plus").load(str(data), prompt="base")
    [trace] = (await rollouts(env, Scripted([reply]))).values()
    assert trace.error is None, trace.error
    return trace.reward


def returns(value: str, function: str = "answer") -> str:
    return f"def {function}(*a):\n    return {value}\n"


@pytest.mark.parametrize(
    ("due", "got", "reward"),
    [
        ("[1, 2]", "[1, 2]", 1.0),
        ("[1, 2]", "(1, 2)", 0.0),
        ("True", "1", 1.0),
        ("0.3", "0.1 + 0.2", 1.0),
        ("0.3", "0.3001", 0.0),
        ("[0.5, 1.5]", "[0.5, 1.5000001]", 1.0),
        ("[0.5, 1.5]", "[0.5]", 0.0),
        ("float('nan')", "float('nan')", 0.0),
        ("3", "3.0000001", 0.0),
        ("{'a': 1}", "__import__('collections').Counter('a')", 1.0),
        ("[1]", "type('L', (list,), {'__eq__': lambda s, o: True})()", 0.0),
        ("'x'", "__import__('os')._exit(0)", 0.0),
    ],
)
async def test_values_are_equal_or_near_floats(due: str, got: str, reward: float, tmp_path: Path) -> None:
    assert await judged(tmp_path, "answer", returns(due), returns(got)) == reward


@pytest.mark.parametrize(
    ("function", "due", "got", "reward"),
    [
        ("larg_nnum", "[3, 2]", "[2, 3]", 1.0),
        ("larg_nnum", "[3, 2]", "[2, 4]", 0.0),
        ("larg_nnum", "[3, 2]", "None", 0.0),
        ("larg_nnum", "[3, 2]", "{2: 1, 3: 1}.keys()", 0.0),
        ("larg_nnum", "[3, 2]", "(2, 3, 2)", 1.0),
        ("larg_nnum", "[3, 2]", "[3]", 0.0),
        ("larg_nnum", "[3, 2]", "[3, [2]]", 0.0),
        ("larg_nnum", "[1, 2]", "range(1, 3)", 1.0),
        ("larg_nnum", "[1, 2]", "range(1, 10**10)", 0.0),
        ("larg_nnum", "['a']", "'a' * 4000000", 0.0),
        ("larg_nnum", "[0]", "__import__('collections').deque(n * (2**61 - 1) for n in range(200000))", 0.0),
        ("check_str", "__import__('re').match('a', 'a')", "True", 1.0),
        ("check_str", "__import__('re').match('a', 'b')", "False", 1.0),
        ("check_str", "__import__('re').match('a', 'b')", "True", 0.0),
        ("check_str", "True", "__import__('re').match('a', 'a')", 1.0),
        ("sum_div", "7", "0", 1.0),
        ("sum_div", "7", "8", 0.0),
    ],
)
async def test_single_tasks_have_rules_of_their_own(
    function: str, due: str, got: str, reward: float, tmp_path: Path
) -> None:
    assert await judged(tmp_path, function, returns(due, function), returns(got, function)) == reward


async def test_a_tolerance_is_the_tasks_own(tmp_path: Path) -> None:
    assert await judged(tmp_path, "answer", returns("2.0"), returns("2.00005"), atol=0.0001) == 1.0
    assert await judged(tmp_path, "answer", returns("2.0"), returns("2.0005"), atol=0.0001) == 0.0


async def test_only_the_arguments_of_the_asked_inputs_count(tmp_path: Path) -> None:
    reference, reply = "def answer(n):\n    return n\n", "def answer(n):\n    return min(n, 5)\n"
    inputs = {"base_input": [[5]], "plus_input": [[6]]}
    assert await judged(tmp_path, "answer", reference, reply, **inputs) == 0.0
    assert await judged(tmp_path, "answer", reference, reply, base_input=[[5]]) == 1.0


@pytest.mark.parametrize("reply", ["", "no code", returns("1", "add_digits")])
async def test_a_score_says_what_ran_the_program_and_what_judged_it(reply: str) -> None:
    score = await scored("mbpp-plus", "sample/add_digits", reply)
    assert (score.interpreter or "").startswith("CPython 3.")
    assert score.judge is not None


async def test_large_integers_arrive_as_they_are() -> None:
    reply = "def add_digits(n):\n    return sum(map(int, str(n)))\n"
    assert (await scored("mbpp-plus", "sample/add_digits", reply, prompt="base")).value == 1.0


def test_a_release_with_another_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "Release.jsonl"
    source.write_text("{}\n")
    module = __import__("sys").modules[type(find("mbpp-plus").load("sample")).__module__]
    rows = module.ReleaseRows("own", "v1", source.as_uri(), "0" * 64)
    with pytest.raises(UsageError, match="is not the file that was pinned"):
        list(rows)
    assert not list((tmp_path / "cache").rglob("*.jsonl"))
