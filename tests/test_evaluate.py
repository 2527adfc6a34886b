"""Many rollouts: bounded, lazy, resumable, and never a number from nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envkit import Dataset, Message, ModelError, Rollout, Scripted, SingleTurnEnv, Task, Trace, evaluate, weighted
from envkit.cli.running import report_of
from envkit.clients.base import Client, Completion, Request
from envkit.errors import EnvError, UsageError
from envkit.evaluate import AHEAD, AT_ONCE, Resume
from envkit.events import Event, RolloutEnded
from envkit.progress import SAME_FAILURES, Budget, Progress
from envkit.runs import RunDirectory, RunWriter
from envkit.types import Usage


def correct(rollout: Rollout[Task]) -> float:
    return float(rollout.reply == str(rollout.task.answer))


def tasks(count: int) -> list[Task]:
    return [Task(id=f"t{n}", prompt=f"{n}+1?", answer=n + 1) for n in range(count)]


def env(count: int = 10, **more: Any) -> SingleTurnEnv[Task]:
    return SingleTurnEnv(tasks(count), rewards=[correct], **more)


class Adder(Client):
    """Answers right, fails for the samples it is told to, and counts."""

    name = "adder"

    def __init__(self, *, fails: Sequence[str] = (), error: Exception | None = None, latency: float = 0.0) -> None:
        self.fails, self.latency = set(fails), latency
        self.error = error or ModelError("502", retryable=True)
        self.calls: list[tuple[str, int]] = []
        self.live = self.most = 0

    async def complete(self, request: Request) -> Completion:
        assert request.task is not None
        self.calls.append((request.task.id, request.sample))
        self.live += 1
        self.most = max(self.most, self.live)
        await asyncio.sleep(self.latency)
        self.live -= 1
        if request.task.id in self.fails:
            raise self.error
        return Completion(
            Message.assistant(str(request.task.answer)), usage=Usage(prompt_tokens=6, completion_tokens=4)
        )


class Watches(Adder):
    """Keeps how many tasks were drawn beyond the calls, at each call."""

    def __init__(self, drawn: list[int]) -> None:
        super().__init__(latency=0.001)
        self.drawn = drawn
        self.ahead: list[int] = []

    async def complete(self, request: Request) -> Completion:
        self.ahead.append(len(self.drawn) - len(self.calls))
        return await super().complete(request)


async def test_a_whole_run(tmp_path: Path) -> None:
    report = await evaluate(env(), Adder(), k=3, out=tmp_path / "run")
    assert (report.mean, report.n_tasks, report.k, report.scored, report.failed) == (1.0, 10, 3, 30, 0)
    directory = RunDirectory(tmp_path / "run")
    assert directory.manifest.status == "finished"
    assert len(directory.rows()) == 30
    assert (tmp_path / "run" / "results.json").exists()


async def test_no_more_are_live_than_concurrency_and_tasks_are_drawn_lazily() -> None:
    drawn: list[int] = []

    def endless() -> Iterator[Task]:
        for task in tasks(1000):
            drawn.append(1)
            yield task

    client = Watches(drawn)
    await evaluate(SingleTurnEnv(Dataset(endless), rewards=[correct]), client, limit=100, concurrency=4)
    assert client.most == 4
    assert len(drawn) == 100
    assert max(client.ahead) <= client.most + AT_ONCE


async def test_tasks_that_take_long_to_make_are_made_one_at_a_time() -> None:
    drawn: list[int] = []

    def slowly() -> Iterator[Task]:
        for task in tasks(12):
            time.sleep(2 * AHEAD)
            drawn.append(1)
            yield task

    client = Watches(drawn)
    await evaluate(SingleTurnEnv(Dataset(slowly), rewards=[correct]), client, concurrency=2)
    assert len(drawn) == 12
    assert max(client.ahead) <= 2


async def test_what_a_dataset_says_of_itself_once_it_is_read_is_recorded_and_no_change_at_a_resume(
    tmp_path: Path,
) -> None:
    def hub() -> SingleTurnEnv[Task]:
        about: dict[str, Any] = {"id": "d"}

        def read() -> list[Task]:
            about["commit"] = "c"
            return tasks(2)

        return SingleTurnEnv(Dataset(read, about=about), rewards=[correct])

    await evaluate(hub(), Adder(), out=tmp_path / "run", limit=1)
    assert RunDirectory(tmp_path / "run").manifest.inputs["dataset"] == {"id": "d", "commit": "c"}
    report = await evaluate(hub(), Adder(), out=tmp_path / "run", resume=Resume())
    assert report.rollouts == 2


async def test_a_task_that_is_no_json_is_named_and_those_before_it_are_run() -> None:
    odd = [*tasks(2), Task(id="odd", prompt="?", answer=object())]
    client = Adder()
    with pytest.raises(EnvError, match="task 'odd' has a field that is no JSON"):
        await evaluate(SingleTurnEnv(odd, rewards=[correct]), client, concurrency=1)
    assert len(client.calls) == 2


async def test_tasks_before_one_that_cannot_be_made_are_run() -> None:
    def broken() -> Iterator[Task]:
        yield from tasks(5)
        raise ValueError("no sixth")

    client = Adder()
    with pytest.raises(EnvError, match="no sixth"):
        await evaluate(SingleTurnEnv(Dataset(broken), rewards=[correct]), client, concurrency=1)
    assert len(client.calls) == 5


async def test_failures_are_no_zeros() -> None:
    report = await evaluate(env(), Adder(fails=["t1", "t2"]))
    assert (report.mean, report.mean_failed_as_zero, report.scored, report.failed) == (1.0, 0.8, 8, 2)
    report = await evaluate(env(3), Adder(fails=["t0", "t1", "t2"]))
    assert (report.mean, report.scored, report.failed) == (None, 0, 3)


async def test_the_run_stops_when_the_endpoint_is_broken_for_good(tmp_path: Path) -> None:
    client = Adder(fails=[f"t{n}" for n in range(500)], error=ModelError("401 no key", status=401))
    report = await evaluate(env(500), client, concurrency=4, out=tmp_path / "run")
    assert SAME_FAILURES <= len(client.calls) <= SAME_FAILURES + 4
    assert report.mean is None
    assert RunDirectory(tmp_path / "run").manifest.status == "endpoint"
    done = await evaluate(env(500), Adder(), out=tmp_path / "run", resume=Resume())
    assert (done.mean, done.scored) == (1.0, 500)


async def test_failures_that_differ_in_a_requests_id_are_alike() -> None:
    class Refuses(Client):
        def __init__(self, *statuses: int) -> None:
            self.statuses, self.calls = itertools.cycle(statuses), 0

        async def complete(self, request: Request) -> Completion:
            self.calls += 1
            said = f"refused (request req_0{self.calls}Abc, id 3f-{self.calls}e, {self.calls * 7} ms)"
            raise ModelError(said, status=next(self.statuses))

    always, by_turns = Refuses(400), Refuses(400, 401)
    await evaluate(env(50), always, concurrency=1)
    await evaluate(env(50), by_turns, concurrency=1)
    assert (always.calls, by_turns.calls) == (SAME_FAILURES, 50)


@pytest.mark.parametrize("budget", [Budget(tokens=10**6), Budget(cost=5.0)])
async def test_a_budget_of_what_nobody_counts_stops_the_run(tmp_path: Path, budget: Budget) -> None:
    class Uncounted(Adder):
        async def complete(self, request: Request) -> Completion:
            return replace(await super().complete(request), usage=None, model="m")

    client = Uncounted()
    report = await evaluate(env(50), client, concurrency=1, budget=budget, out=tmp_path / "run")
    assert len(client.calls) == 1
    assert "cannot be kept" in str(report.stopped)
    assert RunDirectory(tmp_path / "run").manifest.status == "budget"
    assert (await evaluate(env(), Scripted(lambda _: "1"), budget=budget)).stopped is None, "which takes no tokens"


async def test_what_a_superseded_attempt_took_was_paid_for(tmp_path: Path) -> None:
    class FailsLate(SingleTurnEnv[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            await rollout.chat.generate()
            if rollout.trace.attempt == 0:
                raise ModelError("502", retryable=True)

    made = FailsLate(tasks(3), rewards=[correct])
    await evaluate(made, Adder(), out=tmp_path / "run")
    report = await evaluate(made, Adder(), out=tmp_path / "run", resume=Resume())
    assert (report.rollouts, report.failed, report.tokens) == (3, 0, {"prompt": 36, "completion": 24})
    assert report_of(RunDirectory(tmp_path / "run")) == report


async def test_a_budget_drains_and_the_resume_finishes(tmp_path: Path) -> None:
    first = Adder(latency=0.001)
    await evaluate(env(50), first, concurrency=4, budget=Budget(tokens=100), out=tmp_path / "run")
    assert 10 <= len(first.calls) <= 14
    assert RunDirectory(tmp_path / "run").manifest.status == "budget"
    second = Adder()
    report = await evaluate(env(50), second, out=tmp_path / "run", resume=Resume())
    assert not set(first.calls) & set(second.calls)
    assert (report.scored, report.mean) == (50, 1.0)


async def test_resume_asks_again_only_what_is_missing_or_failed_for_a_reason(tmp_path: Path) -> None:
    def broken(rollout: Rollout[Task]) -> float:
        if rollout.task.id == "t3":
            raise KeyError("gold")
        return 1.0

    made = SingleTurnEnv(tasks(6), rewards=[broken])
    await evaluate(made, Adder(fails=["t1"]), out=tmp_path / "run")
    again = Adder()
    await evaluate(made, again, out=tmp_path / "run", resume=Resume())
    assert again.calls == [("t1", 0)]
    with_env = Adder()
    await evaluate(SingleTurnEnv(tasks(6), rewards=[weighted(correct, 1.0, name="broken")]), with_env,
                   out=tmp_path / "run", resume=Resume(retry=("env",)))  # fmt: skip
    assert with_env.calls == [("t3", 0)]
    assert [(row.task_id, row.attempt) for row in RunDirectory(tmp_path / "run").rows()][-2:] == [("t1", 1), ("t3", 1)]


async def test_changed_inputs_are_refused_or_recorded(tmp_path: Path) -> None:
    await evaluate(env(4), Adder(fails=["t1"]), out=tmp_path / "run", sampling={"temperature": 0.0})
    with pytest.raises(UsageError, match=r"made under other inputs: sampling.* was .*--accept-changes"):
        await evaluate(env(4), Adder(), out=tmp_path / "run", resume=Resume(), sampling={"temperature": 1.0})
    await evaluate(
        env(4), Adder(), out=tmp_path / "run", resume=Resume(accept_changes=True), sampling={"temperature": 1.0}
    )
    directory = RunDirectory(tmp_path / "run")
    changes = [bool(trace.changes) for trace in directory.traces(directory.rows())]
    assert changes == [False] * 4 + [True]
    assert len(directory.manifest.changes) == 1


@pytest.mark.parametrize(
    ("was", "now", "change"),
    [
        ({"provenance": {"args": {"file": "a"}}}, {"provenance": {"args": {"file": "b"}}}, "env.args.file was a, is b"),
        ({"provenance": {"args": {"x": {"url": 1}}}}, {"provenance": {"args": {"x": {"url": 2}}}}, "env.args.x.url"),
        ({"sampling": {"url": "a"}}, {"sampling": {"url": "b"}}, "sampling.command line.url was a"),
    ],
)
async def test_only_where_a_model_or_a_file_lies_may_change(
    tmp_path: Path, was: dict[str, Any], now: dict[str, Any], change: str
) -> None:
    class At(Adder):
        def __init__(self, url: str) -> None:
            super().__init__()
            self.url = url

        def about(self) -> dict[str, Any]:
            return {"url": self.url}

    def lies(file: str) -> SingleTurnEnv[Task]:
        return SingleTurnEnv(Dataset(tasks(2), about={"file": file}), rewards=[correct])

    await evaluate(lies("a.jsonl"), At("a"), out=tmp_path / "run", **was)
    await evaluate(lies("b.jsonl"), At("b"), out=tmp_path / "run", resume=Resume(), **was)
    with pytest.raises(UsageError, match=change):
        await evaluate(lies("b.jsonl"), At("b"), out=tmp_path / "run", resume=Resume(), **now)


async def test_what_an_environment_lacks_is_run_again_with_its_other_failures(tmp_path: Path) -> None:
    class NoOracle(SingleTurnEnv[Task]):
        async def run(self, rollout: Rollout[Task]) -> None:
            raise UsageError("it has no oracle")

    await evaluate(NoOracle(tasks(2), rewards=[correct]), Adder(), out=tmp_path / "run")
    report = await evaluate(env(2), Adder(), out=tmp_path / "run", resume=Resume())
    assert report.failed_by_kind == {"usage": 2}
    report = await evaluate(env(2), Adder(), out=tmp_path / "run", resume=Resume(retry=("env",)))
    assert (report.failed, report.scored) == (0, 2)


async def test_group_rewards_are_the_same_after_a_kill_between_members(tmp_path: Path) -> None:
    def rank(traces: Sequence[Trace]) -> list[float]:
        return [float(sorted(t.sample for t in traces).index(trace.sample)) for trace in traces]

    def made() -> SingleTurnEnv[Task]:
        return SingleTurnEnv(tasks(2), rewards=[correct], group_rewards=[rank])

    whole = await evaluate(made(), Adder(), k=4, out=tmp_path / "whole")
    await evaluate(made(), Adder(), k=4, out=tmp_path / "torn")
    lines = (tmp_path / "torn" / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "torn" / "rollouts.jsonl").write_bytes(b"".join(lines[:6]) + lines[6][:50])
    (tmp_path / "torn" / "scores" / "group.jsonl").unlink()
    again = Adder()
    report = await evaluate(made(), again, k=4, out=tmp_path / "torn", resume=Resume())
    assert len(again.calls) == 2
    assert report.mean == whole.mean == 1.0 + (0 + 1 + 2 + 3) / 4


def ranked(**more: Any) -> SingleTurnEnv[Task]:
    """An environment whose only reward compares the attempts."""

    def rank(traces: Sequence[Trace]) -> list[float]:
        if more:
            raise KeyError("rank")
        return [float(trace.sample) for trace in traces]

    return SingleTurnEnv(tasks(3), group_rewards=[rank])


async def test_groups_that_are_not_compared_are_unscored_and_counted(tmp_path: Path) -> None:
    for k, fails, mean, skipped in ((2, ["t1"], 0.5, 1), (2, ["t0", "t1", "t2"], None, 3), (1, [], None, 3)):
        path = tmp_path / f"{k}-{len(fails)}"
        report = await evaluate(ranked(), Adder(fails=fails), k=k, out=path)
        assert (report.mean, report.skipped_groups) == (mean, skipped)
        assert report.scored + report.unscored + report.failed == 3 * k
        assert report_of(RunDirectory(path)) == report
    again = Adder()
    await evaluate(ranked(), again, k=1, out=tmp_path / "1-0", resume=Resume())
    assert again.calls == []


async def test_a_group_reward_that_raises_fails_its_members_now_and_later(tmp_path: Path) -> None:
    report = await evaluate(ranked(raises=True), Adder(), k=2, out=tmp_path / "run")
    assert (report.failed, report.unscored, report.failed_by_kind) == (6, 0, {"env": 6})
    assert report_of(RunDirectory(tmp_path / "run")) == report


async def test_a_disk_that_takes_no_group_rewards_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunWriter, "layer", full)
    report = await evaluate(ranked(), Adder(), k=2, out=tmp_path / "run", concurrency=1)
    assert report.stopped == "the run directory takes no more: No space left on device. Free space, then resume."
    monkeypatch.undo()
    again = Adder()
    report = await evaluate(ranked(), again, k=2, out=tmp_path / "run", resume=Resume())
    assert (report.mean, report.scored, ("t0", 0) in again.calls) == (0.5, 6, False)


async def test_an_interrupt_launches_nothing_more_and_lets_the_live_ones_end() -> None:
    client = Adder(latency=0.02)

    def stop_soon(progress: Progress) -> None:
        asyncio.get_running_loop().call_later(0.01, progress.stop, "interrupted", "Ctrl-C")

    report = await evaluate(env(100), client, concurrency=5, started=stop_soon)
    assert len(client.calls) == 5
    assert (report.scored, report.stopped) == (5, "Ctrl-C")


async def test_cancelled_it_leaves_no_task_and_a_resumable_run(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    running = asyncio.create_task(evaluate(env(100), Adder(latency=0.005), concurrency=5, out=tmp_path / "run"))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == before
    assert RunDirectory(tmp_path / "run").manifest.status == "interrupted"
    assert (await evaluate(env(100), Adder(), out=tmp_path / "run", resume=Resume())).scored == 100


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        (Dataset(lambda: iter([])), {}, "The dataset has no tasks to run"),
        (Dataset([*tasks(2), tasks(1)[0]]), {}, "two tasks with the id 't0'"),
        (Dataset(tasks(2)), {"ids": ["t1", "t9"]}, "has no task 't9'"),
        (Dataset.generate(lambda i, rng: Task(id=str(i), prompt="x")), {}, "This dataset is endless"),
    ],
)
async def test_datasets_that_cannot_be_run(dataset: Dataset[Task], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        await evaluate(SingleTurnEnv(dataset, rewards=[correct]), Adder(), **options)


async def test_what_was_finished_before_the_dataset_broke_is_kept(tmp_path: Path) -> None:
    def breaks() -> Iterator[Task]:
        yield from tasks(5)
        raise UsageError("data.jsonl:6: no column 'problem'")

    with pytest.raises(UsageError, match=r"data\.jsonl:6"):
        await evaluate(SingleTurnEnv(Dataset(breaks), rewards=[correct]), Adder(latency=0.01), out=tmp_path / "run")
    assert len(RunDirectory(tmp_path / "run").rows()) == 5


async def test_a_dataset_whose_own_code_raises_is_named_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    def breaks() -> Iterator[Task]:
        yield from tasks(5)
        raise KeyError("row")

    with pytest.raises(EnvError, match="the dataset raised KeyError: 'row'"):
        await evaluate(SingleTurnEnv(Dataset(breaks), rewards=[correct]), Adder(latency=0.01), out=tmp_path / "run")
    assert len(RunDirectory(tmp_path / "run").rows()) == 5


async def test_where_one_worker_breaks_the_others_are_gone_before_the_run_is_closed(tmp_path: Path) -> None:
    def breaks(event: Event) -> None:
        if isinstance(event, RolloutEnded) and event.trace.task_id == "t0":
            raise OSError("the listener's pipe is gone")

    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="pipe is gone"):
        await evaluate(env(20), Adder(latency=0.01), concurrency=5, out=tmp_path / "run", listener=breaks)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("stray", [asyncio.CancelledError(), SystemExit(2)], ids=["cancelled", "exit"])
async def test_a_dataset_or_a_close_that_strays_is_the_environments_error(stray: BaseException) -> None:
    def breaks() -> Iterator[Task]:
        yield tasks(1)[0]
        raise stray

    class Closes(SingleTurnEnv[Task]):
        async def close(self) -> None:
            raise stray

    with pytest.raises(EnvError, match=f"the dataset raised {type(stray).__name__}"):
        await evaluate(SingleTurnEnv(Dataset(breaks), rewards=[correct]), Adder())
    with pytest.raises(EnvError, match=rf"close\(\) of Closes raised {type(stray).__name__}"):
        await evaluate(Closes(tasks(1), rewards=[correct]), Adder())


async def test_an_environment_that_fails_to_close_loses_nothing(tmp_path: Path) -> None:
    class Stuck(SingleTurnEnv[Task]):
        async def close(self) -> None:
            raise OSError("the drawer is stuck")

    with pytest.raises(EnvError, match=r"close\(\) of Stuck raised OSError: the drawer is stuck"):
        await evaluate(Stuck(tasks(3), rewards=[correct]), Adder(), out=tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    assert (directory.manifest.status, len(directory.rows())) == ("finished", 3)
    assert (tmp_path / "run" / "results.json").exists()


async def test_an_unbound_role_is_an_error_before_the_first_request() -> None:
    made = env()
    made.roles = ("user",)
    client = Adder()
    with pytest.raises(UsageError, match=r"needs a model for the role 'user': say --role user=URL"):
        await evaluate(made, client)
    assert client.calls == []


async def test_selection_by_ids_shuffle_and_limit() -> None:
    async def chosen(**options: Any) -> list[str]:
        client = Adder()
        await evaluate(env(), client, concurrency=1, **options)
        return [task for task, _ in client.calls]

    assert await chosen(ids=["t7", "t2"]) == ["t2", "t7"]
    assert await chosen(limit=3) == ["t0", "t1", "t2"]
    shuffled = await chosen(shuffle=1, limit=4)
    assert shuffled == await chosen(shuffle=1, limit=4) != ["t0", "t1", "t2", "t3"]


async def test_a_passed_client_is_not_closed() -> None:
    closed: list[bool] = []

    class Closes(Adder):
        async def close(self) -> None:
            closed.append(True)

    await evaluate(env(), Closes())
    assert closed == []


def test_scripted_answers_need_no_event_loop_of_their_own() -> None:
    report = asyncio.run(evaluate(env(2), Scripted(lambda messages: "1")))
    assert report.mean == 0.5
