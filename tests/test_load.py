"""Tasks from hub datasets, files and replays: what is read, what is refused, and how it is said."""

import gzip
import json
import os
import socket
import subprocess
import sys
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envkit.dataset import Dataset
from envkit.environment import Environment, SingleTurnEnv
from envkit.errors import UsageError
from envkit.load import RowDataset, hf_tasks, read_data
from envkit.rows import FileRows, Row
from envkit.task import Task

ROWS = [{"question": f"What is {n} + 1?", "sum": str(n + 1), "key": f"q{n}"} for n in range(5)]


def sums(**changed: Any) -> RowDataset[Task]:
    return hf_tasks("nobody/sums", "test", **{"prompt": "question", "answer": "sum", "id": "key", **changed})


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reading(path: Path, **changed: Any) -> Environment[Task]:
    env = SingleTurnEnv(sums(**changed))
    read_data(env, str(path))
    return env


def message(path: Path, **changed: Any) -> str:
    """What is said of this file."""
    with pytest.raises(UsageError) as caught:
        list(reading(path, **changed).tasks)
    return str(caught.value)


def as_csv(path: Path) -> Path:
    path.write_text("question,sum,key\n" + "".join(f"{r['question']},{r['sum']},{r['key']}\n" for r in ROWS))
    return path


def as_parquet(path: Path) -> Path:
    from datasets import Dataset as Table

    Table.from_list(ROWS).to_parquet(path)
    return path


def as_gzip(path: Path) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.jsonl", lambda path: jsonl(path, ROWS)),
        ("rows.jsonl.gz", as_gzip),
        ("rows.csv", as_csv),
        ("rows.parquet", as_parquet),
    ],
)
def test_each_format_gives_the_same_tasks(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    env = reading(write(tmp_path / name))
    expected = [Task(id=r["key"], prompt=r["question"], answer=r["sum"]) for r in ROWS]
    assert list(env.tasks) == expected
    assert list(env.tasks) == expected, "a second iteration starts again"
    assert env.tasks.about["file"] == str(tmp_path / name)
    assert env.tasks.about["fingerprint"].startswith("sha256:")


def test_parts_of_a_task_may_be_functions_of_the_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROWS)
    env = reading(path, prompt=lambda row: f"{row['question']} Say it.", answer=lambda row: int(row["sum"]))
    assert next(iter(env.tasks)) == Task(id="q0", prompt="What is 0 + 1? Say it.", answer=1)


def test_make_may_give_a_task_of_another_type(tmp_path: Path) -> None:
    class Sum(Task):
        terms: tuple[int, ...]

    def make(row: Row) -> Sum:
        return Sum(id=row["key"], terms=(int(row["sum"]), 1))

    tasks = hf_tasks("nobody/sums", "test", make=make).with_rows(FileRows(jsonl(tmp_path / "rows.jsonl", ROWS)))
    assert [task.terms for task in tasks.take(2)] == [(1, 1), (2, 1)]


def test_without_an_id_column_the_id_stays_when_rows_move(tmp_path: Path) -> None:
    one = reading(jsonl(tmp_path / "a.jsonl", ROWS), id=None)
    other = reading(jsonl(tmp_path / "b.jsonl", ROWS[::-1]), id=None)
    assert {task.id: task.prompt for task in one.tasks} == {task.id: task.prompt for task in other.tasks}


def test_a_file_is_read_lazily(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROWS)
    with path.open("a") as file:
        file.write("{broken")
    env = reading(path)
    assert len(list(env.tasks.take(5))) == 5


def test_what_the_environment_selected_holds_for_other_rows_too(tmp_path: Path) -> None:
    env = SingleTurnEnv(sums().filter(lambda task: task.answer != "1").shuffle(3).take(2))
    read_data(env, str(jsonl(tmp_path / "rows.jsonl", ROWS)))
    everything = Dataset([Task(id=r["key"], prompt=r["question"], answer=r["sum"]) for r in ROWS[1:]])
    assert list(env.tasks) == list(everything.shuffle(3).take(2))


def test_a_missing_column_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [ROWS[0], {"question": "?", "key": "q"}])
    assert message(path) == f"{path}:2: no column 'sum' (columns: question, key)"


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", ROWS[:1])
    path.write_text(path.read_text() + "\n{'single': 'quotes'}\n")
    assert message(path).startswith(f"{path}:3: not JSON (")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["a", "list"], "a JSON object was due, this is list"),
        ({"question": "", "sum": "1", "key": "q"}, "the prompt is empty"),
        ({"question": None, "sum": "1", "key": "q"}, "the prompt is empty"),
        ({"question": 7, "sum": "1", "key": "q"}, "prompt.str: Input should be a valid string"),
        ({"question": "?", "sum": None, "key": "q"}, "there is no answer"),
        ({"question": "?", "sum": "1", "key": ""}, "id: String should have at least 1 character"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: Any, said: str) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [ROWS[0], row])
    assert message(path) == f"{path}:2: {said}"


def test_what_a_function_of_the_row_raises_names_the_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [ROWS[0], {**ROWS[1], "sum": "two"}])
    said = message(path, answer=lambda row: int(row["sum"]))
    assert said.startswith(f"{path}:2: no task can be made of it: ValueError: invalid literal")


def test_duplicate_ids_are_named_with_both_places(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [*ROWS[:2], ROWS[0]])
    assert message(path) == f"{path}:3: the id 'q0' is that of {path}:1; ids must be unique"


def test_no_rows(tmp_path: Path) -> None:
    assert message(jsonl(tmp_path / "rows.jsonl", [])) == f"{tmp_path}/rows.jsonl has no rows."


def test_a_csv_line_of_another_length(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,sum,key\n1+1?,2,a\n1+2?,3\n")
    assert message(path) == f"{path}:3: the header has 3 columns, this line has not"


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("no")
    assert message(path).startswith(f"{path}: not a readable Parquet file")


def test_a_gzip_that_is_cut_off(tmp_path: Path) -> None:
    whole = as_gzip(tmp_path / "rows.jsonl.gz").read_bytes()
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[:-20])
    assert "cannot be read (Compressed file ended before" in message(tmp_path / "rows.jsonl.gz")


def test_a_file_that_is_not_there_and_one_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no data file '.*gone.jsonl'"):
        reading(tmp_path / "gone.jsonl")
    (tmp_path / "rows.xlsx").touch()
    with pytest.raises(UsageError, match=r"read from \.jsonl, \.jsonl\.gz, \.parquet, \.csv files"):
        reading(tmp_path / "rows.xlsx")


def test_an_environment_that_makes_its_own_tasks_has_no_rows_to_replace(tmp_path: Path) -> None:
    env = SingleTurnEnv([Task(id="1", prompt="?")])
    with pytest.raises(UsageError, match="SingleTurnEnv makes its own tasks"):
        read_data(env, str(jsonl(tmp_path / "rows.jsonl", ROWS)))


def test_a_replay_gives_its_own_tasks_each_once(tmp_path: Path) -> None:
    rows = [{"task_id": f"t/{n // 2}", "prompt": f"p{n // 2}", "gold": "1", "response": str(n)} for n in range(6)]
    env = SingleTurnEnv(sums())
    read_data(env, f"replay:{jsonl(tmp_path / 'replay.jsonl', rows)}")
    assert [(task.id, task.prompt, task.answer) for task in env.tasks] == [(f"t/{n}", f"p{n}", "1") for n in range(3)]


def test_the_sample_is_read_and_said_to_be_one(tmp_path: Path) -> None:
    env = SingleTurnEnv(sums())
    read_data(env, "sample", sample=jsonl(tmp_path / "sample.jsonl", ROWS))
    assert (len(list(env.tasks)), env.tasks.about["data"]) == (5, "sample")
    with pytest.raises(UsageError, match=r"ships no sample\.jsonl"):
        read_data(env, "sample", sample=tmp_path / "gone.jsonl")


# --- the hub, out of reach ---------------------------------------------------------------------------------------


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def in_new_process(code: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`datasets` reads its settings when it is imported, so the hub's tests have a process of their own."""
    names = {"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"}
    clean = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", "from envkit.load import hf_tasks\n" + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**clean, **env}, timeout=60)


LIST = "print([t.id for t in hf_tasks('nobody/sums', 'train', prompt='question', id='key'{})])"


def test_a_hub_out_of_reach_is_said_with_the_ways_out(tmp_path: Path, closed_port: str) -> None:
    done = in_new_process(LIST.format(""), tmp_path, HF_ENDPOINT=closed_port, HF_HOME=str(tmp_path / "hf"))
    said = done.stderr.split("UsageError: ")[-1]
    assert said.startswith(f"{closed_port} cannot be reached, and nobody/sums [train] is not in the local cache.")
    assert "--data FILE" in said
    assert "--data sample" in said
    assert "HF_HOME" in said


def test_the_cache_serves_the_pinned_revision_and_no_other(tmp_path: Path, closed_port: str) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", ROWS)
    fill = f"import datasets; print(datasets.load_dataset('json', data_files={str(rows)!r})['train'].cache_files)"
    home = {"HF_ENDPOINT": closed_port, "HF_HOME": str(tmp_path / "hf")}
    assert in_new_process(fill, tmp_path, **home).returncode == 0
    revision = "0123456789abcdef0123456789abcdef01234567"
    filled = next((tmp_path / "hf/datasets/json").glob("*/0.0.0/*/dataset_info.json")).parent
    cached = tmp_path / f"hf/datasets/nobody___sums/default/0.0.0/{revision}"
    cached.parent.mkdir(parents=True)
    filled.rename(cached)
    (cached / "json-train.arrow").rename(cached / "sums-train.arrow")
    info = (cached / "dataset_info.json").read_text().replace('"dataset_name": "json"', '"dataset_name": "sums"')
    (cached / "dataset_info.json").write_text(info)

    done = in_new_process(LIST.format(f", revision={revision!r}"), tmp_path, **home)
    assert done.stdout == "['q0', 'q1', 'q2', 'q3', 'q4']\n", done.stderr
    done = in_new_process(LIST.format(f", revision={'f' * 40!r}"), tmp_path, **home)
    assert f"is in the local cache at another revision than {'f' * 40}" in done.stderr
    unpinned = "tasks = hf_tasks('nobody/sums', 'train', prompt='question'); list(tasks); print(tasks.about)"
    about = literal_eval(in_new_process(unpinned, tmp_path, **home).stdout)
    assert about["commit"] == revision
    assert about["built"]["by"].startswith("datasets ")
    assert about["built"] == literal_eval(in_new_process(unpinned, tmp_path, **home).stdout)["built"]
    assert len(about["built"]["fingerprint"]) >= 16


def test_a_directory_of_the_datasets_name_is_not_taken_for_it(tmp_path: Path, closed_port: str) -> None:
    (tmp_path / "nobody" / "sums").mkdir(parents=True)
    jsonl(tmp_path / "nobody" / "sums" / "train.jsonl", ROWS)
    done = in_new_process(LIST.format(""), tmp_path, HF_ENDPOINT=closed_port, HF_HOME=str(tmp_path / "hf"))
    assert "in the working directory hides the hub's dataset" in done.stderr
