"""Real processes, really killed."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import jobs
import pytest

from envkit.errors import EnvError, InfraError
from envkit.verify import workers
from envkit.verify.template import Fresh
from envkit.verify.workers import WorkerDied, Workers, WorkerTimeout, WorkRaised

SOON = 60.0
"""Seconds: no measure, only an end to a test that hangs."""

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not (PROC / "self" / "fd").exists(), reason="looks for processes in /proc")


@pytest.fixture
def pool() -> Iterator[Workers]:
    pool = Workers(count=2)
    yield pool
    pool.close()


def alive(process: int) -> bool:
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(of: int) -> list[int]:
    """Zombies included."""
    found: list[int] = []
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == of:
            found.append(int(stat.parent.name))
    return found


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def descriptors() -> int:
    return len(list((PROC / "self" / "fd").iterdir()))


def test_answers_are_json(pool: Workers) -> None:
    assert pool.run("math:factorial", 20) == 2432902008176640000
    for value in ["x", "\ud800 é \x00", None, 1.5, [1, {"a": [True]}], "long" * 10**6]:
        assert pool.run("jobs:echo", value) == value


def test_the_template_has_no_threads_and_forks_the_workers(pool: Workers) -> None:
    assert pool.run("jobs:threads") == 1
    worker, template = pool.run("jobs:who")
    assert os.getpid() not in (worker, template)


def test_import_starts_nothing() -> None:
    code = "import threading, envkit.verify.workers as w; p = w.Workers(); print(threading.active_count(), p._engine)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "1 None\n"


def test_late_work_is_killed_and_the_next_job_is_served(pool: Workers) -> None:
    with pytest.raises(WorkerTimeout, match=r"jobs:spin ran past its 0\.2 s"):
        pool.run("jobs:spin", timeout=0.2)
    assert pool.run("jobs:echo", 1) == 1


def test_waiting_for_a_place_does_not_count() -> None:
    pool = Workers(count=1)
    with ThreadPoolExecutor(4) as threads:
        slow = [threads.submit(pool.run, "time:sleep", 0.4, timeout=SOON) for _ in range(3)]
        last = threads.submit(pool.run, "jobs:echo", "in time", timeout=0.3)
        assert last.result(SOON) == "in time"
        assert [each.result(SOON) for each in slow] == [None] * 3
    pool.close()


def test_first_come_first_served(tmp_path: Path) -> None:
    pool, file = Workers(count=1), str(tmp_path / "order")
    futures = [pool._submit("jobs:append", (file, str(number)), SOON) for number in range(10)]
    for future in futures:
        future.result(SOON)
    assert Path(file).read_text() == "0123456789"
    pool.close()


@pytest.mark.parametrize(
    ("function", "how"),
    [
        ("jobs:crash", "killed by SIGSEGV"),
        ("os:abort", "killed by SIGABRT"),
        ("jobs:hoard", "out of memory"),
        ("jobs:hang_up", "killed by SIGKILL"),
    ],
)
def test_a_dead_worker_costs_its_own_job_alone(pool: Workers, function: str, how: str) -> None:
    with pytest.raises(WorkerDied, match=how):
        pool.run(function, timeout=SOON)
    assert pool.run("jobs:echo", 1) == 1


def test_an_exit_is_a_death(pool: Workers) -> None:
    with pytest.raises(WorkerDied, match="exit status 3"):
        pool.run("os:_exit", 3)
    assert pool.run("jobs:echo", 1) == 1


def test_idle_workers_that_die_are_replaced(pool: Workers) -> None:
    worker, _ = pool.run("jobs:who")
    os.kill(worker, signal.SIGKILL)  # of which the pool may hear only when it has given the next job to it
    assert pool.run("jobs:who")[0] != worker


def test_a_job_whose_worker_cannot_begin_is_given_up(pool: Workers) -> None:
    with pytest.raises(WorkerDied, match="exit status 5"):
        pool.run("leaving:nothing", timeout=SOON)


def test_what_the_function_raises_is_told() -> None:
    pool = Workers(count=1)
    with pytest.raises(WorkRaised, match="jobs:fail raised ValueError: no such number") as caught:
        pool.run("jobs:fail")
    assert "in fail" in caught.value.__notes__[0]
    for function, told in [
        ("no_such:thing", "ModuleNotFoundError"),
        ("jobs:no_such", "AttributeError"),
        ("jobs:leave", "SystemExit: 4"),
        ("builtins:set", "not JSON serializable"),
    ]:
        with pytest.raises(WorkRaised, match=told):
            pool.run(function)
    pool.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of processor time")
def test_the_kernels_limit_is_well_above_the_deadline_and_says_the_same(pool: Workers) -> None:
    import resource

    soft, _ = pool.run("resource:getrlimit", resource.RLIMIT_CPU, timeout=1.0)
    assert 11 <= soft < 60
    with pytest.raises(WorkerTimeout):
        pool.run("jobs:tire")
    assert pool.run("jobs:echo", 1) == 1


def test_errors_say_whose_fault_it_is() -> None:
    assert issubclass(WorkerTimeout, InfraError)
    assert issubclass(WorkerDied, InfraError)
    assert issubclass(WorkRaised, EnvError)
    assert not WorkerTimeout.retryable
    assert not WorkerDied.retryable


@pytest.mark.parametrize(
    "garbage",
    [
        "\xff\xff\xff\xff" + "x" * 100,
        "\x00\x00\x00\x04junk",
        "\x00\x00\x00\x02[]",
        '\x00\x00\x00\x11{"started": true}',
        "\x00\x00\x00\x0d" + '{"raised": 1}',
        "\x00\x00\xff\xff" + "[" * 0xFFFF,
    ],
)
def test_garbage_is_no_answer(pool: Workers, garbage: str) -> None:
    with pytest.raises(WorkerDied):
        pool.run("jobs:garble", garbage, timeout=SOON)
    assert pool.run("jobs:echo", 1) == 1


def test_an_answer_without_end_is_not_read(pool: Workers) -> None:
    with pytest.raises(WorkerDied):
        pool.run("jobs:shout", workers.ANSWER_BYTES, timeout=SOON)
    assert len(pool.run("jobs:shout", workers.ANSWER_BYTES // 2)) == workers.ANSWER_BYTES // 2
    assert pool.run("jobs:nested") == jobs.nested()


def test_what_a_job_prints_stays_out_of_the_host(pool: Workers, capfd: pytest.CaptureFixture[str]) -> None:
    assert pool.run("jobs:chatter") == "done"
    pool.close()
    assert capfd.readouterr() == ("", "")


def test_fifty_threads(pool: Workers) -> None:
    def ask(number: int) -> object:
        try:
            if number % 10 == 7:
                return pool.run("jobs:spin", timeout=0.1)
            return pool.run("os:_exit", 1) if number % 10 == 3 else pool.run("jobs:echo", number)
        except InfraError as error:
            return type(error)

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(ask, range(100), timeout=SOON))
    assert answers == [{7: WorkerTimeout, 3: WorkerDied}.get(number % 10, number) for number in range(100)]


def test_two_loops_at_once(pool: Workers) -> None:
    async def ask(base: int) -> list[object]:
        return await asyncio.gather(*(pool.arun("jobs:echo", base + number) for number in range(20)))

    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(asyncio.run, ask(base)) for base in (0, 100))
        assert first.result(SOON) == list(range(20))
        assert second.result(SOON) == list(range(100, 120))


async def test_a_loop_stays_free_while_a_job_works(pool: Workers) -> None:
    working = asyncio.create_task(pool.arun("time:sleep", 0.3))
    turns = 0
    while not working.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 3


@needs_proc
async def test_cancelling_kills_the_worker(tmp_path: Path) -> None:
    pool, file = Workers(count=1), tmp_path / "pid"
    working = asyncio.create_task(pool.arun("jobs:mark", str(file), timeout=600))
    waiting = asyncio.create_task(pool.arun("jobs:echo", "never", timeout=600))
    while not (file.exists() and file.read_text()):
        await asyncio.sleep(0.01)
    worker = int(file.read_text().split()[0])
    waiting.cancel()
    working.cancel()
    for task in (waiting, working):
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(SOON):
        assert await pool.arun("jobs:echo", "next") == "next"
    assert not alive(worker)
    pool.close()


def test_a_loop_that_is_gone_costs_nothing(pool: Workers) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.arun("jobs:spin", timeout=600), 0.2)

    asyncio.run(give_up())
    asyncio.run(give_up())
    assert pool.run("jobs:echo", 1) == 1


@needs_proc
def test_started_in_a_thread_that_ends(pool: Workers) -> None:
    answers: list[list[int]] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: answers.append(pool.run("jobs:who")))
        thread.start()
        thread.join(SOON)
    assert answers[0] == answers[1], "the template was killed with the thread that first asked"


def test_a_forked_host_has_its_own_pool(pool: Workers) -> None:
    _, template = pool.run("jobs:who")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            own = pool.run("jobs:who")[1]
            pool.close()
            os.write(writing, str(own).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        own = int(told.read())
    os.waitpid(child, 0)
    assert own != template
    assert pool.run("jobs:who")[1] == template, "the child's end took the parent's pool with it"


@needs_proc
def test_the_template_is_replaced_when_it_dies(pool: Workers) -> None:
    worker, template = pool.run("jobs:who")
    os.kill(template, signal.SIGKILL)
    until(lambda: not alive(template) and not alive(worker))
    until(lambda: pool._engine and pool._engine._template is None)
    assert pool.run("jobs:who")[1] != template


def test_a_template_that_cannot_start_fails_its_jobs() -> None:
    pool = Workers(("no_such_module",))
    for _ in range(2):
        with pytest.raises(InfraError, match="No module named 'no_such_module'") as caught:
            pool.run("jobs:echo", 1)
        assert not isinstance(caught.value, WorkerDied), "it is not the job's doing"
    pool.close()


@needs_proc
def test_close_leaves_no_process_and_a_later_job_starts_anew(pool: Workers) -> None:
    before = set(children(os.getpid()))
    with ThreadPoolExecutor(1) as threads:
        unfinished = threads.submit(pool.run, "jobs:spin", timeout=600)
        worker, template = pool.run("jobs:who")
        pool.close()
        with pytest.raises(InfraError, match="closed"):
            unfinished.result(SOON)
    assert not alive(worker)
    assert not alive(template)
    assert set(children(os.getpid())) == before
    assert pool.run("jobs:echo", 1) == 1


@needs_proc
def test_a_dropped_pool_ends() -> None:
    pool = Workers(count=1)
    _, template = pool.run("jobs:who")
    del pool
    gc.collect()
    until(lambda: not alive(template))


@needs_proc
def test_no_descriptor_or_zombie_is_left_over_200_jobs(pool: Workers) -> None:
    _, template = pool.run("jobs:who")
    pool.run("jobs:echo", 1)
    before = descriptors()
    for number in range(200):
        match number % 20:
            case 0:
                with pytest.raises(WorkerDied):
                    pool.run("os:_exit", 1)
            case 10:
                with pytest.raises(WorkerTimeout):
                    pool.run("jobs:spin", timeout=0.01)
            case _:
                pool.run("jobs:echo", number)
    assert descriptors() <= before + 1, "one worker more than before may be alive"
    until(lambda: len(children(template)) <= 2)


def test_a_worker_is_renewed_after_its_share_of_jobs() -> None:
    pool, share = Workers(count=1), workers.JOBS_PER_WORKER
    served = [pool.run("jobs:who")[0] for _ in range(2 * share + 1)]
    pool.close()
    assert [len(list(same)) for _, same in groupby(served)] == [share, share, 1]


@needs_proc
def test_what_a_job_has_started_dies_with_its_worker(tmp_path: Path) -> None:
    pool, file = Workers(count=1), tmp_path / "pid"
    with pytest.raises(WorkerTimeout):
        pool.run("jobs:bear_and_spin", str(file), timeout=1)
    until(lambda: not alive(int(file.read_text())))
    left = pool.run("jobs:bear")
    pool.close()
    until(lambda: not alive(left))


HOST = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is begun without
from envkit.verify.workers import Workers
pool = Workers(count=1)
threading.Thread(target=pool.run, args=("jobs:mark", sys.argv[1]), kwargs={"timeout": 600}, daemon=True).start()
while not (os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1])):
    time.sleep(0.01)
print("working", flush=True)
if sys.argv[2] == "wait":
    time.sleep(600)
"""


def environment() -> dict[str, str]:
    """In which a host of its own finds envkit and the jobs."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


@needs_proc
@pytest.mark.parametrize("end", ["kill", "exit", "interrupt"])
def test_no_process_outlives_the_host(tmp_path: Path, end: str) -> None:
    file = tmp_path / "pids"
    argv = [sys.executable, "-c", HOST, str(file), "exit" if end == "exit" else "wait"]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as host:
        try:
            assert host.stdout is not None
            assert host.stdout.readline() == b"working\n"
            if end != "exit":
                host.send_signal(signal.SIGKILL if end == "kill" else signal.SIGINT)
            host.wait(SOON)
        finally:
            host.kill()
    processes = [int(process) for process in file.read_text().split()]
    assert len(processes) == 2
    until(lambda: not any(alive(process) for process in processes))


def test_without_fork_each_worker_is_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FORKS", False)
    pool = Workers(("fractions",), count=1)
    assert pool.run("jobs:who")[1] == os.getpid()
    assert pool._engine is not None
    assert isinstance(pool._engine._template, Fresh)
    with pytest.raises(WorkerTimeout):
        pool.run("jobs:spin", timeout=0.1)
    with pytest.raises(WorkerDied, match="exit status 3"):
        pool.run("os:_exit", 3)
    assert pool.run("jobs:echo", "still here") == "still here"
    pool.close()
