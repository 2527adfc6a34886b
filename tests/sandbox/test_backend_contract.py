"""What every backend keeps, whatever runs in it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envkit.errors import InfraError, UsageError
from envkit.sandbox import Allow, Backend, Capabilities, ExecLimits, Sandbox, SandboxSpec

MiB = 1 << 20


async def claims(backend: Backend) -> Capabilities:
    found = await backend.available()
    assert isinstance(found, Capabilities)
    return found


def script(source: str) -> list[str]:
    return ["python3", "-c", source]


class TestPrograms:
    async def test_streams_stay_apart_and_bytes_stay_as_they_are(self, box: Sandbox) -> None:
        result = await box.exec(script("import os; os.write(1, b'a\\xff\\0b'); os.write(2, b'\\xfe')"))
        assert (result.code, result.signal, result.reason) == (0, None, "exit")
        assert (result.stdout, result.stderr, result.truncated) == (b"a\xff\0b", b"\xfe", False)
        assert result.ok

    async def test_exit_codes_and_signals(self, box: Sandbox) -> None:
        for code in (1, 3, 127):
            result = await box.exec(script(f"import os; os._exit({code})"))
            assert (result.code, result.signal, result.reason) == (code, None, "exit")
        reasons = {"SEGV": "exit", "TERM": "exit", "ABRT": "exit", "USR1": "exit", "XCPU": "timeout", "KILL": "killed"}
        for name, reason in reasons.items():
            number = int(signal.Signals[f"SIG{name}"])
            result = await box.exec(script(f"import os; os.kill(os.getpid(), {number})"))
            assert (result.code, result.signal, result.reason) == (None, number, reason)
            assert not result.ok

    async def test_an_unknown_program_is_127(self, box: Sandbox) -> None:
        result = await box.exec(["there-is-no-such-program"])
        assert (result.code, result.reason) == (127, "exit")

    async def test_arguments_arrive_as_they_are(self, box: Sandbox) -> None:
        words = ["", "a b", "$HOME", "`id`", "'\"\\", "*", "-n", "é\n"]
        result = await box.exec([*script("import sys; print(ascii(sys.argv[1:]))"), *words])
        assert result.stdout.decode().strip() == ascii(words)

    async def test_words_may_be_of_an_enum(self, box: Sandbox) -> None:
        word = enum.StrEnum("Word", {"ONE": "one"})
        assert (await box.exec(["sh", "-c", "echo $0 $A", word.ONE], env={"A": word.ONE})).stdout == b"one one\n"

    async def test_stdin_ends(self, box: Sandbox) -> None:
        sent = bytes(range(256)) * 1024
        assert (await box.exec(["cat"], stdin=sent)).stdout == sent
        assert (await box.exec(["cat"])).stdout == b""

    @pytest.mark.parametrize("length", [0, 5, 300_000])
    async def test_stdin_can_be_polled(self, box: Sandbox, length: int) -> None:
        source = """
import asyncio, sys
async def main():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(len(await reader.read()))
asyncio.run(main())
import select
poll = select.epoll()
poll.register(0)
"""
        for run in (box.python, lambda source, **named: box.exec(script(source), **named)):
            result = await run(source, stdin=b"x" * length)
            assert result.stdout == b"%d\n" % length, result.stderr

    async def test_stdin_and_stdout_can_be_opened_by_name(self, box: Sandbox) -> None:
        result = await box.exec(["sh", "-c", "cat /dev/stdin; cat /dev/fd/0; cat /proc/self/fd/0"], stdin=b"said")
        assert result.stdout == b"said", result.stderr
        source = "print(open('/dev/stdin').read()); open('/dev/stdout', 'w').write('done')"
        result = await box.exec(script(source), stdin=b"said")
        assert result.stdout in (b"donesaid\n", b"said\ndone"), result.stderr

    async def test_a_program_that_leaves_its_stdin_unread(self, box: Sandbox) -> None:
        assert (await box.exec(["true"], stdin=b"x" * 4 * MiB)).ok

    async def test_the_environment_is_the_specs_and_the_executions(self, start, monkeypatch) -> None:
        monkeypatch.setenv("ENVKIT_TEST_SECRET", "of the host")
        box = await start(env={"A": "1", "B": "1"})
        result = await box.exec(["env"], env={"B": "2"})
        lines = result.stdout.decode().splitlines()
        assert "A=1" in lines
        assert "B=2" in lines
        assert b"ENVKIT_TEST_SECRET" not in result.stdout

    async def test_the_working_folder(self, box: Sandbox) -> None:
        assert (await box.exec(["pwd"])).stdout.strip().endswith(b"/work")
        await box.write("deep/er/file", b"")
        assert (await box.exec(["pwd"], cwd="deep")).stdout.strip().endswith(b"/work/deep")
        assert (await box.exec(["ls"], cwd="/work/deep/er")).stdout == b"file\n"

    async def test_python_runs_a_program_as_main(self, box: Sandbox) -> None:
        source = "import sys\nif __name__ == '__main__': print(sys.argv[1:], input(), 'é')"
        result = await box.python(source, argv=["x", "y z"], stdin=b"line\n")
        assert result.stdout.decode() == "['x', 'y z'] line é\n"
        failed = await box.python("raise ValueError('no')")
        assert failed.code == 1
        assert failed.stderr.decode().strip().splitlines()[-1] == "ValueError: no"

    @pytest.mark.parametrize("length", [0, 200_000])
    async def test_what_an_earlier_program_left_in_its_place(self, backend: Backend, box: Sandbox, length: int) -> None:
        if backend.name == "unsafe":
            pytest.skip("its /tmp is elsewhere")
        program = f"print(42)  # {'x' * length}"
        for plant in ("mkfifo {0}", "ln -s /work/mine {0}", "ln -s /dev/full {0}"):
            await box.exec(["sh", "-c", f"rm -rf {{0}}; {plant}".format("/tmp/main.py")])
            assert (await box.python(program)).stdout == b"42\n"
        assert (await box.exec(["ls"])).stdout == b""
        await box.exec(["sh", "-c", "rm -rf /tmp/main.py; mkdir -p /tmp/main.py/x"])
        result = await box.python(program)
        assert (result.stdout, result.code) in ((b"42\n", 0), (b"", 126))

    async def test_a_long_python_program(self, box: Sandbox) -> None:
        assert (await box.python(f"x = '{'x' * 300_000}'\nprint(len(x))")).stdout == b"300000\n"


class TestLimits:
    async def test_wall(self, box: Sandbox) -> None:
        result = await box.exec(["sleep", "30"], limits=ExecLimits(wall=0.5))
        assert result.reason == "timeout"
        assert result.wall < 20
        assert (await box.python("print(42)")).stdout == b"42\n"

    async def test_cpu(self, box: Sandbox) -> None:
        result = await box.exec(script("while True: pass"), limits=ExecLimits(cpu=1, wall=30))
        assert result.reason == "timeout"
        assert result.wall < 25

    async def test_output_beyond_the_cap_ends_a_program(self, box: Sandbox) -> None:
        for stream in (1, 2):
            endless = script(f"import os\nwhile True: os.write({stream}, b'x' * 65536)")
            result = await box.exec(endless, limits=ExecLimits(output=100_000, wall=20))
            assert (result.reason, result.truncated) == ("output", True)
            assert len((result.stdout, result.stderr)[stream - 1]) == 100_000

    async def test_output_up_to_the_cap_is_whole(self, box: Sandbox) -> None:
        result = await box.exec(script("print('x' * 99_999)"), limits=ExecLimits(output=100_000))
        assert (result.ok, len(result.stdout), result.truncated) == (True, 100_000, False)

    async def test_memory_over_all_processes(self, backend: Backend, box: Sandbox) -> None:
        if not (await claims(backend)).memory:
            pytest.skip(f"{backend.name} does not claim it")
        greedy = (
            "import os\nfor _ in range(3): os.fork()\nx = b'a' * (40 << 20)\nimport time; time.sleep(5); print('kept')"
        )
        result = await box.exec(script(greedy), limits=ExecLimits(memory=128 * MiB, wall=20))
        assert result.stdout.count(b"kept") < 8
        alone = await box.exec(script("x = b'a' * (400 << 20); print('kept')"), limits=ExecLimits(memory=128 * MiB))
        assert alone.stdout == b""
        assert not alone.ok
        assert alone.reason in ("memory", "exit")  # killed, or refused the memory
        assert (await box.python("print(42)")).stdout == b"42\n"

    async def test_memory_of_a_process(self, box: Sandbox) -> None:
        greedy = "x = bytearray(600 << 20); print('kept')"
        result = await box.exec(script(greedy), limits=ExecLimits(memory=200 * MiB))
        assert result.stdout == b""
        assert not result.ok

    async def test_processes(self, backend: Backend, box: Sandbox) -> None:
        if not (await claims(backend)).isolated:
            pytest.skip(f"{backend.name} does not claim it")
        forks = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        made += 1
except OSError:
    print(made, flush=True)
os._exit(0)
"""
        result = await box.exec(script(forks), limits=ExecLimits(pids=16, wall=20))
        assert 5 <= int(result.stdout) <= 16
        assert (await box.exec(["sh", "-c", "ls /proc | grep -c '^[0-9]'"])).stdout.strip() < b"9"

    async def test_a_fork_bomb_leaves_the_box_healthy(self, backend: Backend, box: Sandbox) -> None:
        if not (await claims(backend)).isolated:
            pytest.skip(f"{backend.name} could not hold it")
        bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
        assert (await box.exec(script(bomb), limits=ExecLimits(wall=1))).reason == "timeout"
        assert (await box.python("print(42)")).stdout == b"42\n"

    async def test_a_fork_bomb_beside_a_program_that_runs_on(self, backend: Backend, box: Sandbox) -> None:
        if not (await claims(backend)).isolated:
            pytest.skip(f"{backend.name} could not hold it")
        kept = await box.spawn(["cat"], limits=ExecLimits(wall=60))
        bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
        result = await box.exec(script(bomb), limits=ExecLimits(wall=1, pids=32))
        assert result.reason == "timeout"
        assert result.wall < (2.5 if backend.name == "slot" else 15)
        assert (await box.python("print(42)")).stdout == b"42\n"
        await kept.write(b"still here")
        assert await kept.read(within=10) == b"still here"

    @pytest.mark.parametrize("root", [False, True])
    async def test_a_program_that_kills_whatever_it_can(self, backend: Backend, start, root: bool) -> None:
        found = await claims(backend)
        if not found.isolated or (root and not found.root):
            pytest.skip(f"{backend.name} does not claim it")
        box = await start(root=root)
        await box.write("/var/tmp/kept" if root else "kept", b"x")
        shoot = (
            "import os\nfor _ in range(3): os.fork()\nwhile True:\n    try: os.kill(-1, 9)\n    except OSError: pass"
        )
        result = await box.exec(script(shoot), limits=ExecLimits(wall=1))
        assert result.reason in ("killed", "timeout")
        assert (await box.python("print(42)")).stdout == b"42\n"
        assert await box.read("/var/tmp/kept" if root else "kept") == b"x"

    async def test_disk(self, start) -> None:
        box = await start(limits=ExecLimits(disk=8 * MiB))
        much = "f = open('big', 'wb', buffering=0)\nfor _ in range(20): assert f.write(b'x' * 1048576) == 1048576"
        result = await box.exec(script(much))
        assert not result.ok
        with pytest.raises(ValueError, match="big"):
            await box.write("big", b"x" * 9 * MiB)

    async def test_files(self, backend: Backend, start) -> None:
        if not (await claims(backend)).isolated:
            pytest.skip(f"{backend.name} does not claim it")
        box = await start(limits=ExecLimits(files=100))
        result = await box.exec(script("for i in range(200): open(str(i), 'w').close()"))
        assert b"No space left" in result.stderr

    async def test_memory_of_the_supervisor_is_bounded(self, box: Sandbox) -> None:
        before = _resident()
        process = await box.spawn(["sh", "-c", "exec cat /dev/zero"], limits=ExecLimits(wall=3, output=MiB))
        await asyncio.sleep(1)
        assert len(await process.read(1000)) == 1000
        await process.kill()
        result = await box.exec(["cat", "/dev/zero"], limits=ExecLimits(wall=5))
        assert result.reason == "output"
        assert _resident() - before < 100 * MiB


class TestKills:
    async def test_what_a_program_leaves_behind_is_ended(self, box: Sandbox) -> None:
        long = _a_while()
        left = f"(setsid sleep {long} >/dev/null 2>&1 &) ; (sleep {long} & ) ; echo done"
        result = await box.exec(["sh", "-c", left], limits=ExecLimits(wall=8))
        assert result.stdout == b"done\n"
        assert result.reason == "exit"
        assert await _left(long) == 0

    async def test_a_deaf_program_is_killed(self, box: Sandbox) -> None:
        deaf = """
import os, signal, time
for number in set(range(1, 32)) - {9, 19}:
    signal.signal(number, signal.SIG_IGN)
os.close(1)
os.close(2)
while True:
    time.sleep(1)
"""
        result = await box.exec(script(deaf), limits=ExecLimits(wall=1))
        assert (result.reason, result.signal) == ("timeout", signal.SIGKILL)

    async def test_a_cancelled_execution_ends(self, box: Sandbox) -> None:
        long = _a_while()
        task = asyncio.create_task(box.exec(["sleep", long], limits=ExecLimits(wall=60)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await _left(long) == 0
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"


class TestSpawn:
    async def test_a_conversation(self, box: Sandbox) -> None:
        process = await box.spawn(["cat"])
        await process.write(b"one")
        assert await process.read(within=10) == b"one"
        with pytest.raises(TimeoutError):
            await process.read(within=0.2)
        with pytest.raises(TimeoutError):
            await process.wait(within=0.2)
        await process.write(b"two")
        await process.close_stdin()
        result = await process.wait(within=10)
        assert (result.code, result.stdout) == (0, b"two")

    async def test_stderr_joins_stdout(self, box: Sandbox) -> None:
        process = await box.spawn(["sh", "-c", "echo a; echo b >&2; echo c; exit 3"])
        result = await process.wait(within=10)
        assert (result.code, result.stdout, result.stderr) == (3, b"a\nb\nc\n", b"")

    async def test_it_survives_an_exec_beside_it(self, box: Sandbox) -> None:
        process, long = await box.spawn(["cat"]), _a_while()
        assert (await box.exec(["sh", "-c", f"sleep {long} & echo on"], limits=ExecLimits(wall=8))).stdout == b"on\n"
        assert (await box.exec(["sleep", "30"], limits=ExecLimits(wall=0.5))).reason == "timeout"
        await process.write(b"still here")
        assert await process.read(within=10) == b"still here"
        await process.kill()
        assert await process.read() == b""
        assert (await process.wait()).reason == "killed"
        assert await _left(long) == 0

    async def test_what_passes_itself_off_as_another_ends_all_the_same(self, backend: Backend, box: Sandbox) -> None:
        if not (await claims(backend)).isolated:
            pytest.skip(f"{backend.name} does not claim it")
        process, long = await box.spawn(["sleep", "60"], limits=ExecLimits(wall=60)), _a_while()
        disguised = f"""
import os, subprocess
others = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if open(f"/proc/{{pid}}/cmdline").read().startswith("sleep\\x0060"):
            others.append(open(f"/proc/{{pid}}/environ").read())
    except OSError: pass
env = dict(word.split("=", 1) for word in (others or [""])[0].split("\\0") if "=" in word)
subprocess.Popen(["sleep", "{long}"], env=env | {{"PATH": "/usr/bin:/bin"}}, start_new_session=True,
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
        assert (await box.exec(script(disguised), limits=ExecLimits(wall=20))).ok
        assert await _left(long) == 0
        await process.kill()

    async def test_its_deadline(self, box: Sandbox) -> None:
        process = await box.spawn(["sleep", "30"], limits=ExecLimits(wall=0.5))
        assert (await process.wait(within=20)).reason == "timeout"

    async def test_writing_to_one_that_has_ended(self, box: Sandbox) -> None:
        process = await box.spawn(["true"])
        await process.wait(within=10)
        with pytest.raises(InfraError):
            await process.write(b"anyone?")

    async def test_closing_the_box_ends_it(self, box: Sandbox) -> None:
        process = await box.spawn(["sleep", "30"], limits=ExecLimits(wall=60))
        waiting = asyncio.create_task(process.wait(within=20))
        await asyncio.sleep(0.2)
        await box.close()
        with contextlib.suppress(InfraError):  # gone with its box, so that nobody may be able to tell how it ended
            assert (await waiting).reason == "killed"


class TestBoxes:
    async def test_eight_at_once_share_nothing(self, start) -> None:
        async def one(number: int) -> bytes:
            box = await start()
            await box.write("mine", str(number).encode())
            result = await box.exec(["sh", "-c", "sleep 0.2; cat mine; ls | wc -l"], limits=ExecLimits(wall=60))
            await box.close()
            return result.stdout

        found = await asyncio.gather(*[one(number) for number in range(8)])
        assert [b"".join(line.split()) for line in found] == [f"{number}1".encode() for number in range(8)]

    async def test_two_executions_at_once(self, box: Sandbox) -> None:
        limits = ExecLimits(wall=60)
        results = await asyncio.gather(*[box.exec(["sh", "-c", f"sleep 0.3; echo {n}"], limits=limits) for n in "ab"])
        assert [result.stdout for result in results] == [b"a\n", b"b\n"]

    async def test_close_twice_and_use_after(self, box: Sandbox) -> None:
        await box.close()
        await box.close()
        with pytest.raises(InfraError):
            await box.exec(["true"])

    async def test_a_backend_works_again_after_close(self, backend: Backend, start) -> None:
        await backend.close()
        box = await start()
        assert (await box.exec(["echo", "on"])).stdout == b"on\n"

    async def test_what_a_backend_cannot_hold_to_is_refused(self, backend: Backend) -> None:
        network = (await claims(backend)).network
        if "allow" not in network:
            with pytest.raises(UsageError):
                await backend.start(SandboxSpec(network=Allow(hosts=("example.org",))))
        if not (await claims(backend)).images:
            with pytest.raises(UsageError, match="image"):
                await backend.start(SandboxSpec(image="debian"))

    async def test_the_lifetime_ends_what_runs(self, start) -> None:
        box = await start(lifetime=2)
        try:
            result = await box.exec(["sleep", "30"], limits=ExecLimits(wall=60))
        except InfraError:
            return
        assert result.reason == "killed"


KILLED = """
import asyncio, importlib, sys
sys.path.insert(0, {tests!r})
from backends import BACKENDS
from envkit.sandbox import ExecLimits, SandboxSpec

async def main():
    module, kind, arguments = BACKENDS[{name!r}]
    backend = getattr(importlib.import_module(module), kind)(**arguments)
    box = await backend.start(SandboxSpec())
    await box.write("file", b"x")
    words = ["sh", "-c", "echo up; setsid sleep {long} & exec sleep {long}"]
    process = await box.spawn(words, limits=ExecLimits(wall=600))
    await process.read()
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_sweep_takes_down_what_a_killed_supervisor_left(backend: Backend) -> None:
    long = _a_while()
    source = KILLED.format(tests=str(Path(__file__).parent), name=backend.name, long=long)
    killed = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, start_new_session=True)
    assert killed.stdout is not None
    line = await asyncio.to_thread(killed.stdout.readline)
    killed.kill()
    killed.wait()
    killed.stdout.close()
    assert line == b"up\n"
    swept = await backend.sweep()
    assert await _left(long) == 0
    assert swept >= 1 or backend.name == "slot"  # whose processes end with their supervisor
    assert await backend.sweep() == 0


async def test_a_sweep_spares_the_living(backend: Backend, box: Sandbox) -> None:
    await box.write("file", b"x")
    await backend.sweep()
    assert await box.read("file") == b"x"


async def test_nothing_is_left_after_close(backend: Backend, start) -> None:
    before = {path.name for path in Path("/tmp").iterdir()}
    box = await start()
    long = _a_while()
    await box.spawn(["sh", "-c", f"sleep {long} & exec sleep {long}"], limits=ExecLimits(wall=600))
    await box.exec(["true"])
    await box.close()
    await backend.close()
    assert await _left(long) == 0
    new = {path.name for path in Path("/tmp").iterdir()} - before
    assert not {name for name in new if name.startswith("envkit-") and f"-{os.getpid()}-" in name}


def _a_while() -> str:
    """Seconds for a `sleep` that is then found among all processes of this machine, whoever else runs tests."""
    return str(secrets.randbelow(10**9) + 10**6)


async def _left(word: str) -> int:
    """How many processes of this machine sleep that long, once those just killed had time to go."""
    for _ in range(100):
        if not (found := _on_host(word)):
            return 0
        await asyncio.sleep(0.05)
    return found


def _on_host(word: str) -> int:
    wanted = f"sleep\0{word}\0".encode()
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found += (folder / "cmdline").read_bytes().endswith(wanted)
        except OSError:
            continue
    return found


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
