"""How programs run in a slot: their surroundings, limits, files, network, and those that run on."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import tarfile
import textwrap
from pathlib import Path

import pytest
from sandbox.slots import SMALL, assert_healthy, box, slots

from envkit.errors import InfraError, UsageError
from envkit.sandbox import slot
from envkit.sandbox.base import ExecLimits, MiB, SandboxSpec
from envkit.sandbox.slot.backend import SlotBackend

LIMITS = ExecLimits.model_validate(SMALL)


# How programs run


async def test_a_program_has_its_arguments_input_environment_and_folder() -> None:
    async with box(env={"A": "1"}) as opened:
        source = "import os, sys; print(sys.argv[1:], input(), sorted(os.environ), os.getcwd(), __name__, __file__)"
        result = await opened.python(source, argv=["x", "y z"], stdin=b"hello\n", env={"B": "2"})
        assert result.stdout.decode() == (
            "['x', 'y z'] hello ['A', 'B', 'HOME', 'LANG', 'PATH'] /work __main__ /tmp/main.py\n"
        )
        assert (result.code, result.signal, result.reason, result.stderr) == (0, None, "exit", b"")

        result = await opened.exec(
            ["sh", "-c", 'pwd; cat; env | sort; echo "$1" >&2', "sh", "é"], stdin=b"in\n", cwd="/tmp"
        )
        assert result.stdout.decode().splitlines()[:3] == ["/tmp", "in", "A=1"]
        assert result.stderr.decode() == "é\n"


async def test_the_hosts_environment_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "CANARY_KEY")
    async with box() as opened:
        result = await opened.exec(["sh", "-c", "env; cat /proc/*/environ"])
        assert b"PATH=" in result.stdout
        assert b"CANARY" not in result.stdout


async def test_the_host_is_not_told_of_in_proc() -> None:
    source = "import glob\nfor f in glob.glob('/proc/*/cmdline') + ['/proc/self/cgroup']: print(open(f).read())"
    async with box() as opened:
        for said in (
            (await opened.python(source)).stdout.decode(),
            (await opened.exec(["python3", "-c", source])).stdout,
        ):
            assert str(Path(slot.__file__).parents[1]) not in str(said)
            assert "envkit" not in str(said)
            assert str(os.getpid()) not in re.findall(r"\d+", str(said))


async def test_the_hosts_devices_are_used_and_not_touched() -> None:
    source = """
import os
for name in ("null", "zero", "full", "random", "urandom"):
    try: os.utime(f"/dev/{name}")
    except OSError as error: print(error.strerror)
open("/dev/null", "w").write("x")
print(open("/dev/zero", "rb").read(2))
"""
    async with box() as opened:
        result = await opened.python(source)
        assert result.stdout.decode() == "Read-only file system\n" * 5 + "b'\\x00\\x00'\n", result.stderr


@pytest.mark.parametrize(
    ("source", "code", "stderr"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("raise SystemExit('words')", 1, "words\n"),
        ("exit()", 0, ""),
        ("import sys; sys.exit(256)", 0, ""),
        ("import os; os._exit(7)", 7, ""),
        ("import atexit; atexit.register(print, 'bye')", 0, ""),
        ("import threading, time; threading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()", 0, ""),
        ("open('kept', 'w').write('x' * 9)", 0, ""),
        ("file = open('kept', 'w')\nfile.write('x' * 9)\nloop = [file]\nloop.append(loop)\ndel file", 0, ""),
        ("class Late:\n  def __del__(self): print('gone')\nlate = Late()", 0, ""),
        ("import ctypes; ctypes.CDLL(None).printf(b'from C')", 0, ""),
        ("import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", 0, ""),
        ("import atexit, sys\natexit.register(print, 'bye')\nsys.exit(4)", 4, ""),
        ("print('a' +)", 1, "    print('a' +)\n               ^\nSyntaxError: invalid syntax\n"),
        ("import nowhere", 1, "ModuleNotFoundError: No module named 'nowhere'\n"),
        ("import sys\nsys.stdout.close()\n", 0, ""),
        ("import json, random, subprocess, sys\nprint(sys.executable)", 0, ""),
    ],
)
async def test_the_warm_interpreter_ends_as_a_cold_one(source: str, code: int, stderr: str) -> None:
    async with box() as opened:
        warm = await opened.python(source)
        cold = await opened.python(source, env={"PYTHONNOUSERSITE": "1"})
        assert (warm.code, warm.signal, warm.reason) == (cold.code, cold.signal, cold.reason) == (code, None, "exit")
        assert warm.stdout == cold.stdout
        assert warm.stderr == cold.stderr
        assert stderr in warm.stderr.decode()
        if "kept" in source:
            assert await opened.read("kept") == b"x" * 9


async def test_tracebacks_name_the_program_alone() -> None:
    async with box() as opened:
        result = await opened.python("def f():\n    1/0\nf()\n")
        assert result.code == 1
        assert result.stderr.decode() == (
            'Traceback (most recent call last):\n  File "/tmp/main.py", line 3, in <module>\n    f()\n'
            '  File "/tmp/main.py", line 2, in f\n    1/0\n    ~^~\nZeroDivisionError: division by zero\n'
        )


async def test_exit_codes_and_signals_of_commands() -> None:
    async with box() as opened:
        assert (await opened.exec(["no-such-program"])).code == 127
        assert (await opened.exec(["/etc/passwd"])).code == 126
        assert (await opened.exec(["true"], cwd="nowhere")).code == 127
        died = await opened.exec(["sh", "-c", "kill -SEGV $$"])
        assert (died.code, died.signal, died.reason) == (None, signal.SIGSEGV, "exit")
        interrupted = await opened.python("raise KeyboardInterrupt")
        assert interrupted.signal == signal.SIGINT
        piped = await opened.exec(["bash", "-c", "set -o pipefail; yes | head -1"])
        assert (piped.code, piped.stdout) == (128 + signal.SIGPIPE, b"y\n")


async def test_stdin_small_big_and_closed() -> None:
    async with box() as opened:
        for size in (0, 1, 70_000, 5 * MiB):
            result = await opened.python("import sys; print(len(sys.stdin.buffer.read()))", stdin=b"x" * size)
            assert result.stdout == b"%d\n" % size


async def test_output_need_not_be_text() -> None:
    async with box() as opened:
        result = await opened.python("import os; os.write(1, bytes(range(256))); os.write(2, b'\\xff')")
        assert (result.stdout, result.stderr) == (bytes(range(256)), b"\xff")


async def test_numbers_of_use_are_told() -> None:
    async with slots() as (backend, found), await backend.start(SandboxSpec()) as opened:
        result = await opened.python("x = bytearray(50 << 20)\nfor _ in range(10**6): pass")
        assert result.cpu is not None
        assert 0 < result.cpu <= result.wall * 4
        assert result.peak_memory is not None
        assert result.peak_memory > 50 * MiB
        smaller = await opened.python("pass")
        assert smaller.peak_memory is not None
        assert found.memory is False or smaller.peak_memory < 50 * MiB


# Limits


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import signal, time\n"
        "for s in {*signal.valid_signals()} - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
        "time.sleep(60)",
        "import os\nfor f in range(3): os.close(f)\nwhile True: pass",
        "10 ** (10 ** 9)",
        "import os, time\nos.fork(); os.setpgid(0, 0) if os.getpid() != 2 else 0; time.sleep(60)",
    ],
)
async def test_a_deadline_ends_whatever_runs(source: str) -> None:
    async with box() as opened:
        result = await opened.python(source, limits=LIMITS.model_copy(update={"wall": 0.5}))
        assert result.reason == "timeout"
        assert (result.code, result.signal) == (None, signal.SIGKILL)
        assert result.wall < 0.5 + 1.5
        await assert_healthy(opened)


async def test_processor_time_is_limited_over_all_processes() -> None:
    async with slots() as (backend, found), await backend.start(SandboxSpec()) as opened:
        if not found.memory:
            pytest.skip("no cgroups here")
        source = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
        result = await opened.python(source, limits=LIMITS.model_copy(update={"cpu": 0.4, "wall": 20.0}))
        assert result.reason == "timeout"
        assert result.cpu is not None
        assert 0.3 < result.cpu < 2.0


async def test_memory_is_limited_over_all_processes() -> None:
    async with slots() as (backend, found), await backend.start(SandboxSpec(limits=LIMITS)) as opened:
        alone = await opened.python("x = bytearray(1 << 30)\nprint('got it')")
        assert alone.stdout == b""
        assert alone.reason == ("memory" if found.memory else "exit")
        await assert_healthy(opened)
        if found.memory:
            together = "import os\nfor _ in range(3): os.fork()\nx = bytearray(64 << 20)\nimport time; time.sleep(3)"
            assert (await opened.python(together + "\nos.wait() and 1/0")).reason == "memory"
            await assert_healthy(opened)


async def test_a_fork_bomb_is_bounded_and_leaves_a_healthy_box() -> None:
    async with box(limits=SMALL) as opened:
        source = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
        result = await opened.python(source, limits=LIMITS.model_copy(update={"wall": 1.0}))
        assert result.reason == "timeout"
        await assert_healthy(opened)
        count = """
            import os, time
            made = 0
            try:
                while os.fork(): made += 1
                time.sleep(9)
            except OSError: print(made)
        """
        counted = await opened.python(textwrap.dedent(count))
        assert 0 < int(counted.stdout) <= LIMITS.pids + 8


@pytest.mark.parametrize("fd", [1, 2])
async def test_endless_output_is_cut_and_ended(fd: int) -> None:
    async with box() as opened:
        result = await opened.python(f"import os\nwhile True: os.write({fd}, b'x' * 65536)")
        assert (result.reason, result.truncated) == ("output", True)
        assert len((result.stdout, result.stderr)[fd - 1]) == LIMITS.output
        exact = await opened.python(
            f"import os\nos.write({fd}, b'x' * 1000)", limits=LIMITS.model_copy(update={"output": 1000})
        )
        assert (exact.reason, exact.truncated) == ("exit", False)
        more = await opened.python(
            f"import os\nos.write({fd}, b'x' * 1001)", limits=LIMITS.model_copy(update={"output": 1000})
        )
        assert (more.reason, more.truncated) == ("output", True)
        await assert_healthy(opened)


async def test_bytes_and_files_are_limited_over_all_folders() -> None:
    async with box(limits=SMALL) as opened:
        source = """
        import os
        written = 0
        for place in ('/work', '/tmp', '/dev/shm'):
            try:
                with open(place + '/big', 'wb', 0) as file:
                    while True: written += file.write(bytes(65536))
            except OSError as error: print(error.errno)
        print(written <= 8 << 20, written > 7 << 20)
        for place in ('/work', '/tmp', '/dev/shm'): os.unlink(place + '/big')
        made = 0
        for place in ('/work', '/tmp', '/dev/shm'):
            try:
                for n in range(1000):
                    open(f'{place}/{n}', 'w').close()
                    made += 1
            except OSError as error: print(error.errno)
        print(made)
        """
        result = await opened.python(textwrap.dedent(source))
        lines = result.stdout.decode().splitlines()
        assert lines[3] == "True True"
        assert 150 < int(lines[-1]) <= 200
        with pytest.raises(ValueError, match="No space"):
            await opened.write("more/and/more", b"x" * 9 * MiB)


async def test_a_daemon_that_keeps_stdout_open_ends_with_its_execution() -> None:
    async with box() as opened:
        source = "import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(60)\nprint('parent')"
        result = await opened.python(source)
        assert (result.reason, result.stdout) == ("exit", b"parent\n")
        assert result.wall < 30
        seen = await opened.exec(["sh", "-c", "ls /proc | grep -c '^[0-9]'"])
        assert int(seen.stdout) <= 5  # the warden, sh, ls, grep


# Files


async def test_files_last_as_long_as_the_box_and_no_longer() -> None:
    async with slots(idle=1) as (backend, _):
        async with await backend.start(SandboxSpec()) as first:
            pid = first._slot.pids
            await first.exec(["sh", "-c", "echo 1 > a; echo 2 > /tmp/b; echo 3 > /dev/shm/c; mkdir -p d/e"])
            assert (await first.exec(["cat", "a", "/tmp/b", "/dev/shm/c"])).stdout == b"1\n2\n3\n"
        while True:  # until the same slot comes round again
            second = await backend.start(SandboxSpec())
            if second._slot.pids == pid:
                break
            second._slot.lost = True
            await second.close()
        seen = await second.exec(["find", "/work", "/tmp", "/dev/shm"])
        assert seen.stdout.split() == [b"/work", b"/tmp", b"/dev/shm"]
        await second.close()


async def test_files_are_written_and_read() -> None:
    async with box() as opened:
        await opened.write("deep/er/file", b"\0\xff", mode=0o755)
        assert await opened.read("/work/deep/er/file") == b"\0\xff"
        assert (await opened.exec(["stat", "-c", "%a %U", "deep/er/file"])).stdout == b"755 box\n"
        big = os.urandom(3 * MiB)
        await opened.write("/tmp/big", big)
        assert await opened.read("/tmp/big") == big
        with pytest.raises(ValueError, match="may be read"):
            await opened.read("/tmp/big", max_bytes=3 * MiB - 1)
        with pytest.raises(FileNotFoundError, match="nothing"):
            await opened.read("nothing")
        with pytest.raises(ValueError, match="no regular file"):
            await opened.read("/tmp")
        with pytest.raises(ValueError, match="no regular file"):
            await opened.read("/dev/zero")
        with pytest.raises(ValueError, match="not in the box"):
            await opened.read("../../etc/passwd")
        with pytest.raises(ValueError, match="Read-only"):
            await opened.write("/usr/bin/new", b"")


async def test_planted_links_and_pipes_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("CANARY")
    tmp_path.chmod(0o755)
    async with box() as opened:
        await opened.exec(["sh", "-c", f"ln -s {secret} link; ln -s /proc/1/root{secret} root; mkfifo pipe"])
        for name in ("link", "root"):
            with pytest.raises((FileNotFoundError, ValueError)):
                await opened.read(name)
        with pytest.raises(ValueError, match="no regular file"):
            await opened.read("pipe")
        await opened.write("link", b"new")
        await opened.write("pipe", b"new")
        assert await opened.read("link") == await opened.read("pipe") == b"new"
    assert secret.read_text() == "CANARY"


async def test_archives_go_in_and_out() -> None:
    async with box() as opened:
        into = io.BytesIO()
        with tarfile.open(fileobj=into, mode="w:gz") as archive:
            for name, text in (("a.txt", b"A"), ("sub/b.txt", b"B" * 100_000)):
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
        await opened.upload(into.getvalue(), "put/here")
        out = await opened.download("put")
        with tarfile.open(fileobj=io.BytesIO(out)) as archive:
            assert archive.getnames() == ["here", "here/a.txt", "here/sub", "here/sub/b.txt"]
        with tarfile.open(fileobj=io.BytesIO(await opened.download("put/here/a.txt"))) as archive:
            assert archive.getnames() == ["a.txt"]
        with pytest.raises(ValueError, match="longer"):
            await opened.download("put", max_bytes=50_000)
        with pytest.raises(FileNotFoundError):
            await opened.download("nowhere")
        with pytest.raises(ValueError, match="upload"):
            await opened.upload(b"no archive")


# Network


async def test_no_network_or_only_the_boxs_own() -> None:
    source = """
    import socket
    for family in (socket.AF_INET, socket.AF_INET6, 40, socket.AF_NETLINK, socket.AF_PACKET):
        try: socket.socket(family, socket.SOCK_DGRAM); print('made')
        except OSError as error: print(type(error).__name__)
    try:
        server = socket.create_server(('127.0.0.1', 8000))
        client = socket.create_connection(('127.0.0.1', 8000))
        client.sendall(b'x'); print(server.accept()[0].recv(1))
    except OSError as error: print('no server')
    try: socket.create_connection(('192.0.2.1', 80), 1); print('out')
    except OSError as error: print('no way out')
    a, b = socket.socketpair(); a.send(b'y'); print(b.recv(1))
    """
    async with box() as opened:
        assert (await opened.python(textwrap.dedent(source))).stdout.decode().split("\n")[:-1] == [
            *["OSError"] * 5, "no server", "no way out", "b'y'",
        ]  # fmt: skip
    async with box(network="loopback") as opened:
        assert (await opened.python(textwrap.dedent(source))).stdout.decode().split("\n")[:-1] == [
            "made", "made", *["OSError"] * 3, "b'x'", "no way out", "b'y'",
        ]  # fmt: skip


async def test_specs_that_it_cannot_hold_to_are_refused() -> None:
    backend = SlotBackend()
    for spec in (
        SandboxSpec(network="open"),
        SandboxSpec(workdir="work"),
        SandboxSpec(workdir="/usr/work"),
        SandboxSpec(workdir="/a/../b"),
        SandboxSpec(image="/no/such/image"),
    ):
        with pytest.raises(UsageError):
            await backend.start(spec)
    await backend.close()


# Programs that run on


async def test_a_program_runs_on_beside_others() -> None:
    async with box() as opened:
        repl = await opened.spawn(["python3", "-uc", "x = 1\nimport sys\nfor line in sys.stdin: exec(line)"])
        await repl.write(b"x += 41\n")
        await opened.python("open('/work/shared', 'w').write('seen')")
        await repl.write(b"print(x, open('/work/shared').read())\n")
        text = b""
        while b"42 seen\n" not in text:
            text += await repl.read(within=10)
        with pytest.raises(TimeoutError):
            await repl.read(within=0.2)
        with pytest.raises(TimeoutError):
            await repl.wait(within=0.2)
        await assert_healthy(opened)
        await repl.write(b"print('last')\n")
        await repl.close_stdin()
        result = await repl.wait(within=10)
        assert result.ok
        assert b"last" in result.stdout
        assert await repl.read() == b""
        with pytest.raises(InfraError):
            await repl.write(b"x")


async def test_a_program_that_runs_on_is_killed_with_all_it_started() -> None:
    async with box() as opened:
        shell = await opened.spawn(["sh", "-c", "sleep 50 & echo begun; exec sleep 60"])
        assert await shell.read(within=10) == b"begun\n"
        await shell.kill()
        result = await shell.wait(within=5)
        assert (result.reason, result.signal) == ("killed", signal.SIGKILL)
        flood = await opened.spawn(["yes"])
        assert len(await flood.read(1000)) == 1000
        flooded = await flood.wait(within=10)
        assert (flooded.reason, flooded.truncated, len(flooded.stdout)) == ("output", True, LIMITS.output)
        late = await opened.spawn(["sleep", "60"], limits=ExecLimits(wall=0.3))
        assert (await late.wait(within=5)).reason == "timeout"
        assert await late.read() == b""


async def test_closing_the_box_ends_what_runs_in_it() -> None:
    async with slots() as (backend, _):
        opened = await backend.start(SandboxSpec())
        daemon = await opened.spawn(["sleep", "60"])
        running = asyncio.create_task(opened.exec(["sleep", "60"]))
        await asyncio.sleep(0.1)
        await opened.close()
        await opened.close()
        assert (await running).reason == (await daemon.wait()).reason == "killed"
        with pytest.raises(InfraError, match="closed"):
            await opened.exec(["true"])


async def test_a_box_ends_with_its_lifetime() -> None:
    async with box(lifetime=0.3) as opened:
        assert (await opened.exec(["sleep", "60"])).reason == "killed"
        with pytest.raises(InfraError, match="lifetime"):
            await opened.exec(["true"])


async def test_cancelling_ends_the_program() -> None:
    async with box() as opened:
        running = asyncio.create_task(opened.exec(["sh", "-c", "echo x > began; sleep 1; echo x > went-on"]))
        while not (await opened.exec(["ls"])).stdout:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(1.2)
        assert (await opened.exec(["ls"])).stdout == b"began\n"
