"""Contests: three shapes of rows, hidden tests that cannot run anything, and how programs and functions are judged."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest
from environments.replays import right, scored, silent, total

from envkit.errors import UsageError
from envkit.packages.check import check
from envkit.packages.find import find

TURN = "class Solution:\n    def turned(self, matrix: List[List[int]]):\n        return "
TESTS = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]


def loaded(tmp_path: Path, row: dict[str, Any], **args: Any) -> list[Any]:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(row) + "\n")
    return list(find("stdio-code").load(str(data), **args).tasks)


def contest(**fields: Any) -> dict[str, Any]:
    return {
        "question_id": "q", "question_content": "Add.", "starter_code": "", "contest_date": "2025-03-01T00:00:00",
        "public_test_cases": "[]", "private_test_cases": json.dumps(TESTS), "metadata": "{}", **fields,
    }  # fmt: skip


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


@pytest.mark.usefixtures("isolated")
async def test_every_gate_is_passed() -> None:
    gates = await check(find("stdio-code"), n=6)
    assert [gate for gate in gates if gate.status != "passed"] == []


@pytest.mark.usefixtures("isolated")
async def test_the_solutions_of_the_sample_are_right_and_silence_is_wrong() -> None:
    assert total(await right("stdio-code", "sample")) == 37
    assert total(await silent("stdio-code", "sample")) == 0


def test_the_prompt_has_the_public_examples_and_no_hidden_one() -> None:
    for task in find("stdio-code").load("sample").tasks:
        assert task.examples
        assert all(case.input.rstrip() in task.prompt for case in task.examples)
        hidden = [case.input for case in task.hidden if len(case.input) > 8]
        assert not [text for text in hidden if text.rstrip() in task.prompt], task.id


def test_packed_tests_are_those_that_were_packed(tmp_path: Path) -> None:
    [plain] = loaded(tmp_path, contest())
    [task] = loaded(tmp_path, contest(private_test_cases=packed(json.dumps(TESTS))))
    assert task == plain
    assert [(case.input, case.output) for case in task.hidden] == [("1 2\n", "3\n")]


class Touch:
    """Its pickle makes a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    pickle.loads(pickle.dumps(Touch(trap)))
    assert trap.is_dir()  # so it works where pickles are trusted
    trap.rmdir()
    with pytest.raises(UsageError, match=r"asks for posix\.mkdir: refused"):
        loaded(tmp_path, contest(private_test_cases=packed(Touch(trap))))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (packed(["no", "text"]), "the pickle holds a list, not text"),
        ("!" * 8, "neither JSON nor base64"),
        (base64.b64encode(zlib.compress(b"x" * 99)[:-6]).decode(), "cut short"),
        (base64.b64encode(zlib.compress(b"nonsense")).decode(), "no pickle of text"),
        (packed('{"a": 1}'), "a JSON dict, not a list"),
    ],
)
def test_what_is_no_packed_json_is_refused(value: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        loaded(tmp_path, contest(private_test_cases=value))


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ({}, 1),
        ({"start_date": "2025-03-01"}, 1),
        ({"start_date": "2025-03-02"}, 0),
        ({"end_date": "2025-03-01"}, 1),
        ({"end_date": "2025-02-28"}, 0),
        ({"start_date": "2025-01-01", "end_date": "2025-12-31"}, 1),
    ],
)
def test_the_window_has_both_its_days(args: dict[str, str], count: int, tmp_path: Path) -> None:
    assert len(loaded(tmp_path, contest(), **args)) == count


def test_a_row_of_apps_is_read(tmp_path: Path) -> None:
    program = {"problem_id": 7, "question": "Add.", "input_output": '{"inputs": ["1 2"], "outputs": ["3"]}'}
    [task] = loaded(tmp_path, {**program, "solutions": '["print(3)"]', "starter_code": ""})
    assert (task.id, task.function, task.hidden[0].output, task.answer) == ("7", None, "3", "print(3)")
    tests = '{"fn_name": "add", "inputs": [[1, [2]]], "outputs": [[3]]}'
    [task] = loaded(tmp_path, {**program, "input_output": tests})
    assert (task.function, task.hidden[0].input, task.hidden[0].output) == ("add", "1\n[2]", "3")
    assert loaded(tmp_path, {**program, "input_output": tests}, start_date="2020-01-01") == []


def test_a_row_of_codecontests_is_read(tmp_path: Path) -> None:
    tests = {"input": ["1"], "output": ["2"]}
    row = {"name": "1_A", "description": "Next.", "public_tests": tests, "private_tests": tests,
           "generated_tests": tests, "solutions": {"language": [2, 3], "solution": ["cpp", "py"]}}  # fmt: skip
    [task] = loaded(tmp_path, row)
    assert (task.id, len(task.examples), len(task.hidden), task.answer) == ("1_A", 1, 2, "py")


@pytest.mark.usefixtures("isolated")
async def test_a_score_without_a_program_names_what_would_have_run_it() -> None:
    score = await scored("stdio-code", "sample/temperature", "no code")
    assert (score.value, score.reason) == (0.0, "no_code")
    assert (score.interpreter or "").startswith("CPython 3.")
    assert score.judge is not None


@pytest.mark.usefixtures("isolated")
async def test_where_many_outputs_are_right_the_rows_checker_decides() -> None:
    env = find("stdio-code").load("sample")
    [task] = [task for task in env.tasks if task.id == "sample/fair-teams"]
    other = task.answer + "print(*('12'[team == '1'] for team in reached[best]))"  # the same split, numbered otherwise
    other = other.replace("print(*reached[best])\n", "")
    assert (await scored("stdio-code", task.id, f"```python\n{other}\n```")).value == 1.0


def test_a_row_of_another_shape_or_without_tests_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: neither LiveCodeBench's"):
        loaded(tmp_path, {"question": "?"})
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: the task 'q' has no tests"):
        loaded(tmp_path, contest(private_test_cases="[]"))
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: the task 'q' has a checker, which is for programs"):
        loaded(tmp_path, contest(checker="pass", metadata='{"func_name": "f"}'))


@pytest.mark.parametrize(
    ("task", "code", "value"),
    [
        ("sample/temperature", "for _ in range(int(input())):\n    input()\n    print('97.9 F')", 0.0),
        ("sample/temperature", "import os\nprint('97.9 F')\nprint('100.0 C', flush=True)\nos._exit(0)", 0.0),
        ("sample/binary-add", "print(bin(int(input(), 2) + int(input(), 2))[2:], end='')", 1.0),
        ("sample/binary-add", "print(bin(int(input(), 2) + int(input(), 2))[2:])\nraise SystemExit(1)", 0.0),
        ("sample/fair-teams", "n, *w = map(int, open(0).read().split())\nprint(*[1] * n)", 0.0),
        ("sample/fair-teams", "print('accepted 1')", 0.0),
        ("sample/rotate-matrix", TURN + "list(zip(*matrix[::-1]))", 1.0),
        ("sample/rotate-matrix", TURN + "matrix", 0.0),
        ("sample/split-halves", "class Solution:\n    def canSplit(self, values):\n        return 1", 0.0),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("isolated")
async def test_programs_and_functions_are_judged_by_all_tests(task: str, code: str, value: float) -> None:
    assert (await scored("stdio-code", task, f"```python\n{code}\n```")).value == value
