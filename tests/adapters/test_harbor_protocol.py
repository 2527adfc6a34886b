"""The protocol in real boxes: files in, solution, verifier, reward, and what an agent may try against it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from adapters.harbor_folders import CALM, REWARDED, harbor_task, terminal_bench_task

from envkit.adapters.harbor import Graded, HarborTask, install, read_task, verify
from envkit.adapters.harbor_protocol import solving
from envkit.errors import InfraError, UsageError
from envkit.sandbox import Sandbox
from envkit.sandbox.slot.backend import SlotBackend

Box = Callable[[HarborTask], Awaitable[Sandbox]]


@pytest.fixture(scope="module")
def slots() -> Iterator[SlotBackend]:
    backend = SlotBackend()
    yield backend
    asyncio.run(backend.close())


@pytest.fixture
async def box(slots: SlotBackend) -> AsyncIterator[Box]:
    """Slots with a task installed."""
    boxes: list[Sandbox] = []
    if isinstance(why := await slots.available(), str):
        pytest.skip(f"the slot backend is not available: {why}")

    async def installed(task: HarborTask) -> Sandbox:
        assert task.sandbox is not None
        boxes.append(await slots.start(task.sandbox))
        await install(boxes[-1], task)
        return boxes[-1]

    yield installed
    for each in boxes:
        await each.close()


async def said(box: Sandbox, command: str) -> str:
    result = await box.exec(["bash", "-c", command])
    return (result.stdout + result.stderr).decode()


async def graded(box: Box, folder: Path, *, agent: str = "true") -> Graded:
    task = read_task(folder)
    inside = await box(task)
    await said(inside, agent)
    return await verify(inside, task)


async def failure(box: Box, folder: Path, *, agent: str = "true") -> str:
    with pytest.raises(InfraError) as failed:
        await graded(box, folder, agent=agent)
    return str(failed.value)


async def test_the_files_of_the_environment_are_there_and_the_tests_are_not(box: Box, tmp_path: Path) -> None:
    inside = await box(read_task(harbor_task(tmp_path / "it", **{"environment/a/data": "x", "solution/solve.sh": ""})))
    listed = await said(inside, "pwd; find . /tests /solution -type f; ls /logs")
    assert listed.split() == ["/app", "./a/data", "agent", "artifacts", "verifier"]


async def test_copies_of_a_plain_dockerfile_land_where_it_says(box: Box, tmp_path: Path) -> None:
    text = "FROM debian\nENV WORD=hello\nWORKDIR /app\nCOPY src .\nCOPY run.sh /opt/bin/\nCOPY one two ./both/\n"
    files = {"src/deep/a": "1", "run.sh": "echo $WORD", "one": "1", "two": "2", "unused": "3", "Dockerfile": text}
    folder = harbor_task(tmp_path / "it", **{f"environment/{name}": content for name, content in files.items()})
    (folder / "environment" / "run.sh").chmod(0o755)
    inside = await box(read_task(folder))
    assert await said(inside, "find . /opt -type f | sort; /opt/bin/run.sh") == (
        "./both/one\n./both/two\n./deep/a\n/opt/bin/run.sh\nhello\n"
    )


async def test_the_solution_is_run_with_all_its_files_and_variables(box: Box, tmp_path: Path) -> None:
    task = read_task(
        harbor_task(
            tmp_path / "it",
            CALM + '[solution]\nenv = { WORD = "it\'s" }\n',
            test='[ "$(cat out)" = "it\'s all" ] && echo 1 >/logs/verifier/reward.txt\n',
            **{
                "solution/solve.sh": '#!/bin/bash\necho "$WORD $(cat /solution/more/part)" >out\n',
                "solution/more/part": "all",
            },
        )
    )
    inside = await box(task)
    for command in solving(task):
        assert await said(inside, command) == ""
    assert (await verify(inside, task)).rewards == {"reward": 1.0}


async def test_a_large_solution_takes_several_commands(box: Box, tmp_path: Path) -> None:
    noise = "".join(f"{number * 2654435761 % 2**64:016x}" for number in range(12_000))
    files = {"solution/solve.sh": "#!/bin/sh\ncp /solution/noise .\n", "solution/noise": noise}
    task = read_task(harbor_task(tmp_path / "it", **files))
    commands = solving(task)
    assert len(commands) > 1
    assert max(map(len, commands)) < 100_000
    inside = await box(task)
    for command in commands:
        assert await said(inside, command) == ""
    assert await inside.read("noise") == noise.encode()


def test_a_task_without_a_solution_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it has no solution: .* has no solve\.sh"):
        solving(read_task(harbor_task(tmp_path / "it")))


@pytest.mark.parametrize(
    ("test", "rewards"),
    [
        ("echo 0.5 >/logs/verifier/reward.txt", {"reward": 0.5}),
        ("echo ' -2e-1 ' >/logs/verifier/reward.txt; exit 1", {"reward": -0.2}),
        (
            'echo \'{"reward": 1, "style": 0.25, "ok": true}\' >/logs/verifier/reward.json',
            {"reward": 1, "style": 0.25, "ok": 1},
        ),
        ("echo 0 >/logs/verifier/reward.txt; echo '{\"reward\": 1}' >/logs/verifier/reward.json", {"reward": 1.0}),
    ],
)
async def test_the_reward_is_what_the_verifier_wrote(
    box: Box, tmp_path: Path, test: str, rewards: dict[str, float]
) -> None:
    verdict = await graded(box, harbor_task(tmp_path / "it", test=f"echo said\n{test}\n"))
    assert (verdict.rewards, verdict.output) == (rewards, "said\n")


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("echo last words; exit 3", "it wrote no reward and ended by exit, code 3; its last line: 'last words'"),
        ("echo nan >/logs/verifier/reward.txt", "no finite number"),
        ("echo 1e999 >/logs/verifier/reward.txt", "no finite number"),
        ("echo well done >/logs/verifier/reward.txt", "could not convert"),
        (": >/logs/verifier/reward.txt", "could not convert"),
        ("echo '{\"reward\": NaN}' >/logs/verifier/reward.json", "no finite number"),
        ('echo \'{"reward": "1"}\' >/logs/verifier/reward.json', "no finite number"),
        ("echo '{\"\\\\ud800\": 1}' >/logs/verifier/reward.json", "surrogates not allowed"),
        ("echo '{}' >/logs/verifier/reward.json", "no object with numbers"),
        ("echo 1 >/logs/verifier/reward.txt; echo 1 >/logs/verifier/reward.json", "no object with numbers"),
        ("echo 1 >/logs/verifier/reward.txt; echo oops >/logs/verifier/reward.json", "cannot be read"),
        ("printf '%0.s[' $(seq 60000) >/logs/verifier/reward.json", "cannot be read"),
        ("(printf 1; head -c 100000 /dev/zero | tr '\\0' 0) >/logs/verifier/reward.txt", "65536"),
        ("mkdir /logs/verifier/reward.txt", "no regular file"),
        ("mkfifo /logs/verifier/reward.txt", "no regular file"),
        ("kill -9 $$", "it wrote no reward"),
    ],
)
async def test_no_finite_reward_is_the_verifiers_failure(box: Box, tmp_path: Path, test: str, why: str) -> None:
    assert why in await failure(box, harbor_task(tmp_path / "it", test=test + "\n"))


async def test_a_verifier_that_does_not_end_has_failed(box: Box, tmp_path: Path) -> None:
    folder = harbor_task(tmp_path / "it", CALM + "[verifier]\ntimeout_sec = 0.5\n", test=REWARDED + "sleep 60\n")
    assert "did not finish in 0.5 s" in await failure(box, folder)


async def test_a_verifier_that_floods_its_output_is_heard_to_its_end(box: Box, tmp_path: Path) -> None:
    test = "head -c 20000000 /dev/zero | tr '\\0' a\necho the end\n" + REWARDED
    verdict = await graded(box, harbor_task(tmp_path / "it", test=test))
    assert verdict.rewards == {"reward": 1.0}
    assert verdict.output.endswith("the end\n")
    assert len(verdict.output) <= 4000


@pytest.mark.parametrize(
    "agent",
    [
        "echo 1 >/logs/verifier/reward.txt; echo '{\"reward\": 1}' >/logs/verifier/reward.json",
        "rm -rf /logs/verifier; echo 1 >/app/r; mkdir /app/v; echo 1 >/app/v/reward.txt; ln -s /app/v /logs/verifier",
        "ln -s /app/r /logs/verifier/reward.txt; echo 1 >/app/r",
        "rm -rf /logs/verifier; touch /logs/verifier",
        "mkdir -p /logs/verifier/.x/y; chmod 0 /logs/verifier/.x/y /logs/verifier/.x /logs/verifier",
        "printf '#!/bin/sh\\necho 1 >/logs/verifier/reward.txt\\n' >/tests/test.sh; chmod 555 /tests/test.sh /tests",
        "touch /tests/planted; mkdir /tests/lib",
        "(setsid sh -c 'while :; do echo 1 >/logs/verifier/reward.txt; done' >/dev/null 2>&1 &) ; sleep 0.1",
        "mkdir bin; printf '#!/bin/sh\\necho 1 >/logs/verifier/reward.txt\\n' >bin/cat; chmod +x bin/cat; "
        "export PATH=/app/bin:$PATH; echo export PATH=/app/bin:$PATH | tee .profile .bashrc .bash_profile .env",
    ],
)
async def test_what_an_agent_leaves_where_tests_and_reward_go_is_gone(box: Box, tmp_path: Path, agent: str) -> None:
    test = "cat /tests/word; ls -A /tests /logs/verifier\n[ -e done ]; echo $((1 - $?)) >/logs/verifier/reward.txt\n"
    verdict = await graded(box, harbor_task(tmp_path / "it", test=test, **{"tests/word": "w\n"}), agent=agent)
    assert verdict.rewards == {"reward": 0.0}
    assert verdict.output == "w\n/logs/verifier:\ntest-stdout.txt\n\n/tests:\ntest.sh\nword\n"


async def test_a_disk_that_the_agent_filled_is_no_reward(box: Box, tmp_path: Path) -> None:
    why = await failure(box, harbor_task(tmp_path / "it"), agent="head -c 100000000 /dev/zero >fill")
    assert "cannot be put into the box" in why


async def test_the_verifiers_variables_may_be_this_machines(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = CALM + '[verifier]\nenv = { A = "plain", B = "${HARBOR_B}", C = "${HARBOR_C:-c}" }\n'
    task = read_task(harbor_task(tmp_path / "it", toml, test='echo "$A $B $C"\n' + REWARDED))
    with pytest.raises(UsageError, match="its verifier needs the environment variable HARBOR_B"):
        await box(task)
    monkeypatch.setenv("HARBOR_B", "of the host")
    inside = await box(task)
    assert "of the host" not in await said(inside, "env")
    assert (await verify(inside, task)).output == "plain of the host c\n"
    assert "of the host" not in task.model_dump_json()


async def test_a_terminal_bench_task_is_judged_by_what_pytest_says(box: Box, tmp_path: Path) -> None:
    task = read_task(terminal_bench_task(tmp_path / "it"))
    assert task.sandbox is not None
    calm = task.model_copy(update={"sandbox": task.sandbox.model_copy(update={"network": "none"})})
    inside = await box(calm)
    for command in solving(calm):
        await said(inside, command)
    assert await said(inside, "cat out.txt; ls /tests") == "in\n"
    assert (await verify(inside, calm)).rewards == {"reward": 1.0}


async def test_terminal_bench_tests_that_end_without_a_summary_are_not_passed(box: Box, tmp_path: Path) -> None:
    """As the original counts them: an agent that breaks pytest does not get its rollout left out."""
    scripts = {
        "said nothing": "exit 3",
        "no pytest": "no-such-pytest",
        "killed": "kill -9 $PPID",
        "no bash": "exit 126",
    }
    said: dict[str, object] = {}
    for name, script in scripts.items():
        task = read_task(terminal_bench_task(tmp_path / name.replace(" ", "-"), **{"run-tests.sh": f"{script}\n"}))
        assert task.sandbox is not None
        calm = task.model_copy(update={"sandbox": task.sandbox.model_copy(update={"network": "none"})})
        try:
            said[name] = (await verify(await box(calm), calm)).rewards["reward"]
        except InfraError as error:
            said[name] = str(error).partition(": ")[2]
    assert said == {
        "said nothing": 0.0,
        "no pytest": 0.0,
        "killed": "the verifier failed: ended by killed, signal 9; its last line: ''",
        "no bash": "the verifier failed: ended by exit, code 126; its last line: ''",
    }
