"""puzzles: an audit of the whole library, and that what failed it is refused by name."""

import ast
import hashlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

reasoning_gym = pytest.importorskip("reasoning_gym", reason="the extra envkit[puzzles] is not installed")

from environments.cuts import cut_everywhere  # noqa: E402
from reasoning_gym.factory import DATASETS  # noqa: E402

from envkit import Scripted, run_rollout  # noqa: E402
from envkit.clients.scripted import Oracle  # noqa: E402
from envkit.errors import UsageError  # noqa: E402
from envkit.packages.check import check  # noqa: E402
from envkit.packages.find import find  # noqa: E402

SEED, SIZE = 7, 3
COMPARED = ((SEED, SIZE), (0, 1))
"""Seeds and how many tasks of each must be the same in two processes: of `list_functions`, only one in some is not."""
GARBAGE = [
    "", "none of these", "0", "-1", "A B C", "[]", "{}", "[[1]]", '{"a": 1}', "1,2,3", "é中", "x" * 5000, "{{[[((",
    "True", "None", "nan", "a\nb\nc", "\x00", "9" * 400, "1/0",
]  # fmt: skip
EVALUATING = {"eval", "exec", "parse_expr", "sympify"}


def excluded() -> dict[str, str]:
    module = sys.modules[find("puzzles").load().__class__.__module__]
    return dict(module.EXCLUDED)


def families() -> list[str]:
    return [name for name in sorted(DATASETS) if name != "composite"]


def digest(name: str) -> str:
    datasets = [reasoning_gym.create_dataset(name, seed=seed, size=size) for seed, size in COMPARED]
    entries = [[e["question"], e["answer"], e["metadata"]] for made in datasets for e in made]
    return hashlib.sha256(json.dumps(entries, sort_keys=True, default=str).encode()).hexdigest()


def evaluates_answers(name: str) -> bool:
    """Whether the family's scorer calls something that runs text, on what comes from the answer."""
    kind: Any = DATASETS[name][0]
    source = inspect.getsource(kind.score_answer)
    for node in ast.walk(ast.parse("class C:\n" + source if source.startswith("    ") else source)):
        if isinstance(node, ast.Call):
            function = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            said = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            if function in EVALUATING and ("answer" in said or "user_answer" in said):
                return True
    return False


def problems(name: str) -> list[str]:
    """What the audit finds wrong with a family, but for how stable it is between processes."""
    made = reasoning_gym.create_dataset(name, seed=SEED, size=SIZE)
    entries = [made[i] for i in range(SIZE)]
    found: list[str] = []
    for entry in entries:
        if made.score_answer(entry["answer"], entry) < 1.0:
            found.append("its own answer has less than the full score")
        others = [other["answer"] for other in entries if other["answer"] != entry["answer"]]
        for garbage in [*GARBAGE, entry["question"], *others]:
            try:
                paid = made.score_answer(garbage, entry)
            except Exception as error:  # noqa: BLE001 - which one it is, is what is told
                found.append(f"raises {type(error).__name__} on {str(garbage)[:20]!r}")
                continue
            if paid >= 1.0 and str(garbage).strip() != str(entry["answer"]).strip():
                found.append(f"pays {str(garbage)[:20]!r}")
    return found


@pytest.fixture(scope="module")
def unstable() -> set[str]:
    """The families of which two processes make other tasks; with these hash seeds, each that depends on them does."""
    code = "import json, test_puzzles as t; d = {n: t.digest(n) for n in t.families()}; print(); print(json.dumps(d))"
    here = Path(__file__).parent
    path = f"{here}{os.pathsep}{here.parent}"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE, text=True,
        )
        for seed in ("1", "4321")
    ]  # fmt: skip
    first, second = (json.loads(process.communicate()[0].splitlines()[-1]) for process in both)
    return {name for name in first if first[name] != second[name]}


def test_the_whole_library_is_audited(unstable: set[str]) -> None:
    sound, left_out = [], excluded()
    for name in families():
        if evaluates_answers(name) or name in unstable or problems(name):
            assert name in left_out, (name, evaluates_answers(name), name in unstable, problems(name))
        else:
            sound.append(name)
    assert len(sound) >= 75
    assert set(left_out) <= set(DATASETS)
    assert [name for name in sound if name in left_out] == []


async def test_every_gate_is_passed() -> None:
    gates = await check(find("puzzles"), n=80)
    assert [gate for gate in gates if gate.status == "failed"] == []


async def test_the_oracle_is_paid_and_silence_is_not() -> None:
    env = find("puzzles").load(n=1)
    tasks = list(env.tasks)
    assert len(tasks) == len(DATASETS) - len(excluded())
    for task in tasks:
        assert (await run_rollout(env, task, Oracle(env))).reward == 1.0, task.id
        assert (await run_rollout(env, task, Scripted([""]))).reward == 0.0, task.id


async def test_it_may_be_cut_at_every_turn() -> None:
    env = find("puzzles").load(family="maze", n=1)
    [traces] = (await cut_everywhere(env, list(env.tasks), Oracle(env))).values()
    assert traces[-1].reward == 1.0


async def test_the_last_answer_counts_and_a_huge_one_is_wrong() -> None:
    env = find("puzzles").load(family="gcd", n=1)
    [task] = env.tasks
    right = f"<answer>{task.answer}</answer>"
    for reply, reward in ((f"<answer>no</answer> {right}", 1.0), (f"{right} <answer>no</answer>", 0.0),
                          (f"<answer>{'9' * 20_000}</answer>", 0.0), (str(task.answer), 0.0)):  # fmt: skip
        assert (await run_rollout(env, task, Scripted([reply]))).reward == reward


def test_families_are_named_excluded_and_suggested() -> None:
    assert [task.id for task in find("puzzles").load(family="maze, gcd", n=2, seed=3).tasks] == [
        "maze/3/0", "gcd/3/0", "maze/3/1", "gcd/3/1",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="'countdown' is left out: its scorer evaluates the answer as Python"):
        find("puzzles").load(family="countdown")
    with pytest.raises(UsageError, match=r"no family 'sodoku'\. Did you mean 'sudoku'"):
        find("puzzles").load(family="sodoku")
