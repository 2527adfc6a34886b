"""The run directory: whole lines, one writer, and nothing finished lost at whatever byte a writer was killed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envkit import Environment, Image, Message, Rollout, Scripted, Task, Trace, run_rollout
from envkit.clients.scripted import Replay, call
from envkit.errors import UsageError
from envkit.report import RolloutRow
from envkit.runs import Manifest, RunDirectory, RunWriter
from envkit.task import RecordedTask
from envkit.trace import ErrorRecord, Score, Turn


def made(n: int, *, sample: int = 0, attempt: int = 0, reward: float | None = 1.0, **more: Any) -> Trace:
    task = Task(id=f"t{n}", prompt=f"What is {n}?", answer=n)
    trace = Trace.begin(task, env="e", sample=sample, attempt=attempt)
    trace.turns.append(Turn(prompt=task.messages(), reply=Message.assistant(f"it is {n} \u2028 é")))
    trace.reward, trace.rewards = reward, {"correct": reward}
    trace.scores = {"correct": Score(value=reward, answer=str(n), reason="equal", span=(6, 7))}
    return trace.model_copy(update=more)


def write(path: Path, *traces: Trace) -> Path:
    with RunWriter.create(path, Manifest.begin("e", "m")) as run:
        for trace in traces:
            run.append(trace)
    return path


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    traces = [made(n, sample=s) for n in range(3) for s in range(2)]
    run = RunDirectory(write(tmp_path / "run", *traces))
    rows = run.rows()
    assert [(row.task_id, row.sample, row.reward, row.answer) for row in rows] == [
        (t.task_id, t.sample, t.reward, t.scores["correct"].answer) for t in traces
    ]
    assert list(run.traces(rows)) == traces
    assert [trace.task.answer for trace in run.traces(rows)] == [0, 0, 1, 1, 2, 2]
    assert len((tmp_path / "run" / "tasks.jsonl").read_bytes().splitlines()) == 3


def test_tasks_that_are_expected_are_there_before_the_first_trace_of_one(tmp_path: Path) -> None:
    traces = [made(n) for n in range(3)]
    with RunWriter.create(tmp_path / "run", Manifest.begin("e", "m")) as run:
        for trace in traces:
            run.expect(trace.task)
        assert run.tasks() == {}
        run.append(traces[1])
        assert [task.id for task in run.tasks().values()] == ["t0", "t1", "t2"]
        for trace in (traces[0], made(3)):
            run.append(trace)
    with RunWriter.reopen(tmp_path / "run") as again:
        again.expect(traces[2].task)
        again.append(traces[2])
    assert (tmp_path / "run" / "tasks.jsonl").read_bytes().count(b"\n") == 4


def test_a_task_with_integers_beyond_64_bits_is_kept_as_it_is(tmp_path: Path) -> None:
    task = Task(id="big", answer=[2**64, -(10**40)])
    run = RunDirectory(write(tmp_path / "run", Trace.begin(task)))
    (trace,) = run.traces(run.rows())
    assert trace.task.answer == task.answer
    assert trace.task.hash == task.hash


async def test_half_of_a_surrogate_pair_is_kept_wherever_it_comes_from(tmp_path: Path) -> None:
    half = "\ud83d"
    task = Task(id="t", prompt=f"row {half}", answer={"gold": half})

    def echo(text: str) -> str:
        return text + half

    class Echo(Environment[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.run_tools([echo])

    def fails(_: Rollout[Task]) -> float:
        raise ValueError(half)

    def says(_: Rollout[Task]) -> Score:
        return Score(value=1.0, answer=half, reason=half)

    path = tmp_path / "run"
    with RunWriter.create(path, Manifest.begin("e", "m")) as run:
        for sample, reward in enumerate((says, fails)):
            env = Echo([task], rewards=[reward])
            trace = await run_rollout(env, task, Scripted([call("echo", text="x"), "done"]), sample=sample)
            assert Trace.from_json(trace.to_json()) == trace
            run.append(trace)
            run.layer("again", [trace])
    directory = RunDirectory(path)
    rows = directory.rows("again")
    assert [(row.answer, row.reason, row.error) for row in rows] == [
        (half, half, None),
        (None, None, f"ValueError: {half}"),
    ]
    traces = list(directory.traces(rows))
    assert [half in trace.turns[1].prompt[0].text for trace in traces] == [True, True]
    assert (traces[0].task, traces[0].task_hash) == (RecordedTask.model_validate(task.model_dump()), task.hash)
    (path / "index.jsonl").unlink()
    assert [row.answer for row in RunDirectory(path).rows()] == [half, None]
    Replay(path)


def test_a_row_is_under_a_kilobyte_also_where_the_model_is_hostile(tmp_path: Path) -> None:
    huge = "\x1b[31m" + "界" * 50_000
    error = ErrorRecord(kind="env", type="E", message=huge)
    trace = made(1, scores={"c": Score(value=1.0, answer=huge, reason=huge)}, error=error)
    path = write(tmp_path / "run", trace)
    assert max(map(len, (path / "index.jsonl").read_bytes().splitlines())) < 1024


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 10_000), which=st.sampled_from(["rollouts.jsonl", "index.jsonl"]))
def test_cut_at_any_byte_it_loses_only_what_was_torn(tmp_path: Path, cut: int, which: str) -> None:
    traces = [made(n) for n in range(4)]
    path = tmp_path / "run"
    shutil.rmtree(path, ignore_errors=True)
    write(path, *traces)
    sizes = [row.offset + row.length for row in RunDirectory(path).rows()]
    size = (path / which).stat().st_size
    os.truncate(path / which, size - min(cut, size))
    kept = sum(end <= (path / "rollouts.jsonl").stat().st_size for end in sizes)
    assert list(RunDirectory(path).traces(RunDirectory(path).rows())) == traces[:kept]
    with RunWriter.reopen(path) as run:
        for trace in traces[kept:]:
            run.append(trace)
    assert list(RunDirectory(path).traces(RunDirectory(path).rows())) == traces
    assert len((path / "index.jsonl").read_bytes().splitlines()) == 4


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", Manifest.begin("e", "m")):
        with pytest.raises(UsageError, match="Another process is writing"):
            RunWriter.reopen(tmp_path / "run")
        assert RunDirectory(tmp_path / "run").rows() == []
    RunWriter.reopen(tmp_path / "run").close()


def test_a_folder_in_use_or_unwritable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(UsageError, match="is not empty"):
        RunWriter.create(tmp_path / "full", Manifest.begin("e", "m"))
    with pytest.raises(UsageError, match=r"cannot be written to .*: Not a directory"):
        RunWriter.create(tmp_path / "full" / "notes.txt" / "run", Manifest.begin("e", "m"))


def test_what_is_no_run_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no run directory: it has no run\.json"):
        RunDirectory(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json is damaged"):
        RunDirectory(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(UsageError, match="has a record of schema 99; this envkit reads 1"):
        RunDirectory(tmp_path)


def test_a_record_of_an_unknown_schema_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "run", made(1))
    line = (path / "rollouts.jsonl").read_text().replace('"schema":1', '"schema":2')
    (path / "rollouts.jsonl").write_text(line)
    run = RunDirectory(path)
    with pytest.raises(UsageError, match=r"rollouts\.jsonl \(byte 0\) has a record of schema 2"):
        list(run.traces(run.rows()))


@pytest.mark.parametrize("line", ["5", "{}", "{", "[]", '{"task_id": "t1", "offset": 0, "length": "9"}'])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_bad_row_ends_the_index_which_is_made_again(tmp_path: Path, line: str, at: int) -> None:
    path = write(tmp_path / "run", *(made(n) for n in range(3)))
    rows = RunDirectory(path).rows()
    lines = (path / "index.jsonl").read_text().splitlines()
    (path / "index.jsonl").write_text("".join(f"{text}\n" for text in [*lines[:at], line, *lines[at:]]))
    assert RunDirectory(path).rows() == rows
    RunWriter.reopen(path).close()
    assert (path / "index.jsonl").read_text().splitlines() == lines


HEAD = {"schema": 1, "id": "x", "created": "", "env": "e", "model": "m"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("scores/group.jsonl", "5\n", "scores/group.jsonl:1 is damaged"),
        ("scores/group.jsonl", '{"task_hash": "x"}\n', "scores/group.jsonl:1 is damaged: it has no 'sample'"),
        ("tasks.jsonl", "{}\n", "tasks.jsonl:1 is damaged: it has no 'hash'"),
        ("tasks.jsonl", '{"hash": "x", "task": {}}\n', "tasks.jsonl:1 is damaged: id: Field required"),
        ("tasks.jsonl", None, r"tasks.jsonl is damaged: the task of .*rollouts.jsonl \(byte 0\) is not there"),
        ("run.json", json.dumps({**HEAD, "inputs": {"selection": None}}), "run.json is damaged: .*'selection' must be"),
        ("run.json", "[]", "run.json has a record of schema None"),
        ("rollouts.jsonl", "{}\n", r"rollouts.jsonl \(byte 0\) has a record of schema None"),
    ],
)
def test_a_damaged_run_says_where(tmp_path: Path, name: str, text: str | None, told: str) -> None:
    path = write(tmp_path / "run", made(1))
    (path / name).parent.mkdir(exist_ok=True)
    if text is None:
        (path / name).unlink()
    else:
        (path / name).write_text(text)
    with pytest.raises(UsageError, match=told) as refused:
        list(RunDirectory(path).traces(RunDirectory(path).rows()))
    assert "\n" not in str(refused.value)


def test_unknown_fields_survive(tmp_path: Path) -> None:
    path = write(tmp_path / "run", made(1))
    raw = json.loads((path / "rollouts.jsonl").read_text())
    raw["later"] = {"x": 1}
    raw["turns"][0]["later"] = True
    (path / "rollouts.jsonl").write_text(json.dumps(raw) + "\n")
    (path / "index.jsonl").unlink()
    run = RunDirectory(path)
    trace = next(run.traces(run.rows()))
    assert json.loads(trace.to_json()) == raw


def test_layers_lie_over_the_traces_and_change_no_line(tmp_path: Path) -> None:
    traces = [made(1, sample=s) for s in range(2)]
    path = write(tmp_path / "run", *traces)
    before = (path / "rollouts.jsonl").read_bytes()
    with RunWriter.reopen(path) as run:
        run.layer(
            "group", [t.model_copy(update={"reward": 9.0, "rewards": {"correct": 1.0, "rank": 8.0}}) for t in traces]
        )
        run.layer(
            "stricter", [traces[1].model_copy(update={"reward": None, "scores": {}, "rewards": {"correct": None}})]
        )
    run = RunDirectory(path)
    assert [row.reward for row in run.rows()] == [9.0, 9.0]
    assert [(row.reward, row.answer) for row in run.rows("stricter")] == [(9.0, "1"), (None, None)]
    assert run.layers() == ["group", "stricter"]
    assert (path / "rollouts.jsonl").read_bytes() == before


def test_images_lie_beside_the_records_by_digest(tmp_path: Path) -> None:
    picture = Image.of(b"\x89PNG" * 1000)
    task = Task(id="t", prompt=(Message.user((picture,)),))
    trace = Trace.begin(task)
    trace.turns.append(Turn(prompt=task.messages(), reply=Message.assistant("a cat")))
    path = write(tmp_path / "run", trace)
    assert (path / "rollouts.jsonl").stat().st_size < 1000
    run = RunDirectory(path)
    (image,) = next(run.traces(run.rows())).prompt(0)[0].content
    assert isinstance(image, Image)
    assert image.data is None
    (again,) = run.traces(run.rows())
    run.load_images(again)
    (loaded,) = again.prompt(0)[0].images
    assert loaded.data == again.task.messages()[0].images[0].data == picture.data
    for blob in (path / "blobs").iterdir():
        blob.write_bytes(b"another")
    (again,) = run.traces(run.rows())
    with pytest.raises(UsageError, match=r"blobs/.*, an image of task 't', cannot be read: the blob does not have"):
        run.load_images(again)


def test_an_image_that_only_a_judge_saw_is_kept(tmp_path: Path) -> None:
    first, second = Image.of(b"first"), Image.of(b"second")
    trace = made(1)
    trace.judging.append(Turn(agent="judge", prompt=(Message.user((first,)),), reply=Message.assistant("1")))
    with RunWriter.create(tmp_path / "run", Manifest.begin("e", "m")) as run:
        run.append(trace)
        trace.judging[0] = trace.judging[0].model_copy(update={"prompt": (Message.user((second,)),)})
        run.layer("again", [trace])
    for layer, image in ((None, first), ("again", second)):
        directory = RunDirectory(tmp_path / "run")
        (read,) = directory.scored_traces(directory.rows(), layer)
        directory.load_images(read)
        assert read.judging[0].prompt[0].images[0].data == image.data


def test_a_disk_that_takes_no_more_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = os.write, [3000]

    def full(file: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(28, "No space left on device")
        part = real(file, data[: left[0]])
        left[0] -= part
        return part

    with RunWriter.create(tmp_path / "run", Manifest.begin("e", "m")) as run:
        monkeypatch.setattr(os, "write", full)
        saved = 0
        with pytest.raises(OSError, match="No space left"):
            for n in range(100):
                run.append(made(n))
                saved += 1
    monkeypatch.undo()
    assert 0 < saved < 100
    directory = RunDirectory(tmp_path / "run")
    assert [t.task_id for t in directory.traces(directory.rows())][:saved] == [f"t{n}" for n in range(saved)]


def test_a_closed_run_writes_nothing_into_the_files_of_others(tmp_path: Path) -> None:
    run = RunWriter.create(tmp_path / "run", Manifest.begin("e", "m"))
    run.close()
    with (tmp_path / "other").open("wb") as first, (tmp_path / "more").open("wb") as second:
        with pytest.raises(OSError, match="Bad file descriptor"):
            run.append(made(1))
        assert (os.fstat(first.fileno()).st_size, os.fstat(second.fileno()).st_size) == (0, 0)


def test_rows_of_a_trace_add_up_its_calls() -> None:
    from envkit.types import Usage

    turn = Turn(reply=Message.assistant("x"), usage=Usage(prompt_tokens=3, completion_tokens=2), retries=1, cost=0.5)
    row = RolloutRow.of(made(1, turns=[turn, turn], judging=[turn]))
    assert (row.turns, row.prompt_tokens, row.completion_tokens, row.retries, row.cost) == (2, 9, 6, 3, 1.5)
    unpriced = turn.model_copy(update={"cost": None})
    assert RolloutRow.of(made(1, turns=[turn, unpriced])).cost is None
