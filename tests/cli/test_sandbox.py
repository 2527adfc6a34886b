"""`envkit sandbox`, and `envkit eval` with boxes, as installed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from material import FOLDER, material

from envkit.sandbox import Capabilities, find

ENV = """
from envkit import Environment, Score, Task
from envkit.sandbox import SandboxSpec

SLOW = "import time; time.sleep(60)"

class Programs(Environment[Task]):
    async def run(self, rollout):
        await rollout.sandbox.write("asked", rollout.task.id.encode())
        await rollout.chat.generate()
        rollout.info["asked"] = (await rollout.sandbox.read("asked")).decode()

    def oracle(self, task, messages):
        return task.answer

async def prints_42(rollout):
    async with rollout.fresh_sandbox() as box:
        result = await box.python(rollout.reply)
    return Score(value=float(result.stdout == b"42\\n"), reason=result.reason)

def environment(n: int = 4, slow: bool = False):
    tasks = [Task(id=str(i), prompt="Print 42.", answer=SLOW if slow else "print(42)") for i in range(n)]
    return Programs(tasks, rewards=[prints_42], sandbox=SandboxSpec(env={"A": "1"}))
"""

ARGUMENTS = """
import glob
for name in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        print(open(name).read())
    except OSError:
        pass
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`command(*args, stdin=b"")`: the installed envkit, in a folder of the test's own."""

    def run(*args: str | Path, stdin: bytes = b"", **environ: str) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "envkit", *map(str, args)],
            cwd=tmp_path, env={**os.environ, "COLUMNS": "120", **environ}, input=stdin, capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout, ended.stderr.decode())

    return run


@pytest.fixture
async def isolated() -> str:
    """The backend that is used by default; skips where none works."""
    for name in ("slot", "docker"):
        backend = find.backend(name)
        found = await backend.available()
        await backend.close()
        if isinstance(found, Capabilities):
            return name
    pytest.skip("no isolating sandbox works on this machine")


class TestDoctor:
    async def test_what_works(self, command: Command, isolated: str) -> None:
        ended = command("sandbox", "doctor", "--json")
        assert ended.code == 0, ended.err
        said = ended.json
        rows = {row["name"]: row for row in said["backends"]}
        assert (said["works"], said["default"]) == (True, isolated)
        assert list(rows) == ["slot", "docker", "docker:runsc", "unsafe"]
        assert rows[isolated]["capabilities"]["isolated"]
        assert rows[isolated]["python"].startswith("CPython 3.")
        assert rows["unsafe"]["capabilities"]["isolated"] is False
        table = command("sandbox", "doctor")
        assert f"{isolated} " in table.out.decode()
        assert "works" in table.out.decode()
        assert isolated in table.err

    def test_what_does_not_says_what_to_do(self, command: Command) -> None:
        ended = command("sandbox", "doctor", "--json", DOCKER_HOST="unix:///nowhere/docker.sock")
        docker = next(row for row in ended.json["backends"] if row["name"] == "docker")
        assert docker["capabilities"] is None
        assert "unix:///nowhere/docker.sock" in docker["why"]
        assert "start one" in docker["why"]


@pytest.mark.usefixtures("isolated")
class TestRun:
    def test_streams_and_code_are_the_programs(self, command: Command) -> None:
        ended = command("sandbox", "run", "--", "sh", "-c", "cat; printf 'e\\n' >&2; exit 7", stdin=b"\xff\0in")
        assert (ended.code, ended.out, ended.err) == (7, b"\xff\0in", "e\n")

    def test_options_of_the_program_are_not_ours(self, command: Command) -> None:
        assert command("sandbox", "run", "python3", "-c", "print(6 * 7)").out == b"42\n"
        assert command("sandbox", "run", "echo", "--wall", "--json").out == b"--wall --json\n"

    def test_limits(self, command: Command) -> None:
        late = command("sandbox", "run", "--wall", "1", "--", "sleep", "60")
        assert (late.code, "ran out of time" in late.err) == (124, True)
        greedy = command("sandbox", "run", "--memory", "64M", "--", "python3", "-c", "x = b'a' * (500 << 20); print(1)")
        assert (greedy.code != 0, greedy.out) == (True, b"")
        assert command("sandbox", "run", "--", "sh", "-c", "kill -11 $$").code == 128 + 11

    def test_it_sees_nothing_of_the_host(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("of the host")
        ended = command(
            "sandbox", "run", "--", "sh", "-c", f"cat {tmp_path}/secret; env", ENVKIT_TEST_SECRET="of the host"
        )
        assert b"of the host" not in ended.out

    def test_on_a_terminal_nothing_steers_it(self, tmp_path: Path) -> None:
        ours, theirs = pty.openpty()
        program = "import os; os.write(1, b'a\\x1b]0;title\\x07\\x1b[2Jb\\n')"
        ended = subprocess.run(
            [sys.executable, "-m", "envkit", "sandbox", "run", "--", "python3", "-c", program],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=True,
        )  # fmt: skip
        os.close(theirs)
        shown = os.read(ours, 1000)
        os.close(ours)
        assert (shown.strip(), ended.stderr) == (b"ab", b"")

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            (("--backend", "slto"), "Did you mean 'slot'"),
            (("--backend", "unsafe"), "isolates nothing"),
            (("--backend", "slot", "--unsafe-sandbox"), "contradict"),
            (("--memory", "lots"), "512M"),
            (("--network", "https://pypi.org"), "is no host"),
        ],
    )
    def test_what_cannot_be_run(self, command: Command, options: tuple[str, ...], why: str) -> None:
        ended = command("sandbox", "run", *options, "--", "echo", "ran")
        assert (ended.code, ended.out) == (2, b"")
        assert why in ended.err


def test_unsafe_is_what_one_says(command: Command) -> None:
    assert command("sandbox", "run", "--unsafe-sandbox", "--", "echo", "ran").out == b"ran\n"


class TestConformance:
    @pytest.fixture(autouse=True)
    def _alone(self) -> Iterator[None]:
        """The canaries' ports and paths are fixed: one test at a time has them, whichever process runs it."""
        with open("/tmp/envkit-test-canary.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @staticmethod
    def suite(folder: Path, **programs: tuple[str, str]) -> Path:
        folder.mkdir()
        rows = [{"file": f"{n}.py", "class": k, "task": "func", "expected": ""} for n, (k, _) in programs.items()]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for name, (_, source) in programs.items():
            (folder / f"{name}.py").write_text(source)
        return folder

    @pytest.mark.usefixtures("isolated")
    def test_each_way_to_fail_is_found(self, command: Command, tmp_path: Path) -> None:
        suite = self.suite(
            tmp_path / "suite",
            tame=("fs", "open('file', 'w').write('x')"),
            escapes=("fs", "print('ESCAPED by its own word')"),
            shadow=("secrets", "print(open('/tmp/envkit-canary/secret').read())"),
            wrong=("hack", "def solve(xs): return 0"),
            right=("hack", "def solve(xs): return sum(xs)"),
        )
        ended = command("sandbox", "conformance", suite, "--json")
        assert ended.code == 3
        rows = {row["file"]: row for row in ended.json["outcomes"]}
        assert {name for name, row in rows.items() if row["held"]} == {"tame.py", "shadow.py", "wrong.py"}
        assert rows["escapes.py"]["complaints"][0] == "ESCAPED by its own word"
        assert rows["right.py"]["complaints"] == ["judge_calls accepts it", "judge_asserts accepts it"]
        assert "2 of 3 attacks contained, the judges fooled by 1 of 2 hacks" in ended.err
        assert not Path("/tmp/envkit-canary").exists()

    def test_a_leak_is_found_by_what_the_host_notices(self, command: Command, tmp_path: Path) -> None:
        """A backend that claims to isolate and does not, against harmless programs that prove it."""
        (tmp_path / "leaky.py").write_text(
            "from envkit.sandbox.unsafe import UnsafeBackend\nfrom envkit.sandbox import Capabilities\n"
            "class Leaky(UnsafeBackend):\n    name = 'leaky'\n"
            "    def __init__(self): super().__init__(unsafe=True)\n"
            "    async def available(self): return Capabilities()\n"
        )
        folder = tmp_path / "leaky-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("[envkit.sandbox]\nleaky = leaky:Leaky\n")
        suite = self.suite(
            tmp_path / "suite",
            file=("secrets", "print(open('/tmp/envkit-canary/secret').read())"),
            tcp=("net", "import socket; socket.create_connection(('127.0.0.1', 47999))"),
            udp=("net", "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 47998))"),
            abstract=("net", "import socket; socket.socket(socket.AF_UNIX).connect('\\0envkit-canary')"),
            arguments=("secrets", ARGUMENTS),
            link=("fs", "import os; os.symlink('/etc/hostname', 'result.json')"),
        )
        ended = command("sandbox", "conformance", suite, "--backend", "leaky", "--json", PYTHONPATH=str(tmp_path))
        assert ended.code == 3, ended.err
        found = {row["file"]: row["complaints"] for row in ended.json["outcomes"]}
        assert found.pop("link.py") == []  # its reader refuses links that lead out
        assert {name: complaints[0] for name, complaints in found.items()} == {
            "file.py": "it read the host's FILE token",
            "tcp.py": "it reached the host's TCP port",
            "udp.py": "it reached the host's UDP port",
            "abstract.py": "it reached the host's abstract socket",
            "arguments.py": "it read the host's ARG token",
        }

    def test_it_is_not_done_where_nothing_is_isolated(self, command: Command, tmp_path: Path) -> None:
        suite = self.suite(tmp_path / "suite", touches=("fs", f"open({str(tmp_path / 'touched')!r}, 'w')"))
        ended = command("sandbox", "conformance", suite, "--backend", "unsafe")
        assert (ended.code, ended.out) == (2, b"")
        assert "would attack this machine" in ended.err
        assert not (tmp_path / "touched").exists()
        assert not Path("/tmp/envkit-canary").exists()

    @pytest.mark.parametrize(
        ("manifest", "why"),
        [
            (None, "cannot be read"),
            ("", "names no programs"),
            ("{", "line 1"),
            ('{"file": "../x.py", "class": "fs"}', "line 1"),
            ('{"file": "missing.py", "class": "fs"}', "there is no missing.py"),
        ],
    )
    def test_a_suite_that_cannot_be_read(
        self, command: Command, tmp_path: Path, manifest: str | None, why: str
    ) -> None:
        (tmp_path / "suite").mkdir()
        if manifest is not None:
            (tmp_path / "suite/manifest.jsonl").write_text(manifest)
        ended = command("sandbox", "conformance", tmp_path / "suite")
        assert (ended.code, ended.out) == (2, b"")
        assert why in ended.err

    @pytest.mark.usefixtures("isolated")
    def test_some_of_the_material(self, command: Command, tmp_path: Path) -> None:
        material("attacks/manifest.jsonl")
        names = [
            "find_host_canary",
            "tcp_loopback_host",
            "setsid_sleep_holds_pipe",
            "stdio_eq_str",
            "settrace_force_pass",
        ]
        rows = (FOLDER / "attacks/manifest.jsonl").read_text().splitlines()
        (tmp_path / "suite").mkdir()
        (tmp_path / "suite/manifest.jsonl").write_text(
            "\n".join(row for row in rows if json.loads(row)["file"].removesuffix(".py") in names)
        )
        for name in names:
            (tmp_path / f"suite/{name}.py").symlink_to(FOLDER / f"attacks/{name}.py")
        ended = command("sandbox", "conformance", tmp_path / "suite")
        assert ended.code == 0, ended.out
        assert "3 of 3 attacks contained, the judges fooled by 0 of 2 hacks" in ended.err


class TestEval:
    @pytest.fixture
    def env(self, tmp_path: Path) -> Path:
        (tmp_path / "programs.py").write_text(ENV)
        return tmp_path / "programs.py"

    async def test_a_run_with_boxes(self, command: Command, env: Path, isolated: str) -> None:
        ended = command("eval", env, "-e", "oracle", "--out", "run", "--json")
        assert ended.code == 0, ended.err
        assert (ended.json["mean"], ended.json["scored"]) == (1.0, 4)
        said = json.loads((env.parent / "run/run.json").read_text())["inputs"]["sandbox"]
        assert (said["backend"], said["spec"]["env"]) == (isolated, {"A": "1"})
        again = command("rescore", "run", "--json")
        assert again.code == 0, again.err
        assert (again.json["rescored"], again.json["changed"]) == (4, 0)
        other = command("eval", "--resume", "run", "--unsafe-sandbox")
        assert (other.code, f"sandbox.backend was {isolated}, is unsafe" in other.err) == (2, True)

    def test_unsafe_is_said_and_never_read_from_a_file(self, command: Command, env: Path) -> None:
        ended = command("eval", env, "-e", "oracle", "-n", "2", "--unsafe-sandbox", "--out", "run", "--json")
        assert ended.code == 0, ended.err
        assert ended.json["mean"] == 1.0
        assert json.loads((env.parent / "run/run.json").read_text())["options"].keys() == {"env", "endpoint", "limit"}
        (env.parent / "run.toml").write_text(f'env = "{env}"\nendpoint = "oracle"\nunsafe-sandbox = true\n')
        assert "there is no option 'unsafe-sandbox'" in command("eval", "@run.toml").err
        (env.parent / "run.toml").write_text(f'env = "{env}"\nendpoint = "oracle"\nsandbox = "unsafe"\n')
        refused = command("eval", "@run.toml")
        assert (refused.code, "isolates nothing" in refused.err) == (2, True)

    def test_a_sandbox_that_is_not_there_ends_it_before_it_begins(self, command: Command, env: Path) -> None:
        ended = command(
            "eval",
            env,
            "-e",
            "oracle",
            "--sandbox",
            "docker",
            "--out",
            "run",
            DOCKER_HOST="unix:///nowhere/docker.sock",
        )
        assert (ended.code, ended.out) == (2, b"")
        assert "'docker' cannot be used here: No docker daemon answers" in ended.err
        assert not (env.parent / "run").exists()

    @pytest.mark.usefixtures("isolated")
    def test_a_dry_run_says_which(self, command: Command, env: Path) -> None:
        said = command("eval", env, "-e", "oracle", "--dry-run", "--json").json["sandbox"]
        assert said["interpreter"].startswith("CPython 3.")

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_a_run_that_is_ended_leaves_no_box(
        self, command: Command, env: Path, isolated: str, how: signal.Signals
    ) -> None:
        running = subprocess.Popen(
            [sys.executable, "-m", "envkit", "eval", str(env), "-e", "oracle", "-a", "slow=true", "--out", "run"],
            cwd=env.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        while not (env.parent / "run/run.json").exists():
            assert running.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        below = _below(running.pid)
        assert below or isolated == "docker"
        running.send_signal(how)
        if how is signal.SIGINT:
            time.sleep(0.5)
            running.send_signal(how)  # at once, and not after the grace
        running.communicate(timeout=60)
        if how is signal.SIGKILL:
            assert command("sandbox", "run", "--", "true").code == 0  # sweeps
        assert not [pid for pid in below if _state(pid) != "Z"]


def _below(pid: int) -> list[int]:
    """The process's children and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    found = [int(child) for child in children]
    for thread in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        found += [int(child) for child in (thread / "children").read_text().split() if int(child) not in found]
    return found + [one for child in found for one in _below(child)]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
