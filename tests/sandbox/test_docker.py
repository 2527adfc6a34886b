"""What is docker's own: the hardening as the daemon sees it, images, runtimes, and why it may not be there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envkit.errors import InfraError, UsageError
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.sandbox.docker import DockerBackend
from envkit.sandbox.docker.program import Usage


@pytest.fixture
async def docker() -> AsyncIterator[DockerBackend]:
    backend = DockerBackend()
    if isinstance(why := await backend.available(), str):
        pytest.skip(why)
    yield backend
    await backend.close()


def inspected() -> dict:
    """The only box of this process, as its daemon describes it."""
    import docker as package

    client = package.APIClient()
    (found,) = client.containers(filters={"name": f"envkit-{os.getpid()}-"})
    try:
        return client.inspect_container(found["Id"])
    finally:
        client.close()


async def test_a_box_is_hardened(docker: DockerBackend) -> None:
    async with await docker.start(SandboxSpec()) as box:
        host = inspected()["HostConfig"]
        status = (await box.exec(["cat", "/proc/self/status"])).stdout.decode()
        assert not (await box.exec(["touch", "/etc/x"])).ok
        assert (await box.exec(["id", "-u"])).stdout.strip() != b"0"
        assert (await box.exec(["cat", "/proc/self/oom_score_adj"])).stdout == b"500\n"
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert int(values["CapBnd"], 16) == 1 << 5  # to kill, which our scripts may; a program cannot gain it
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")
    assert host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "none"
    assert host["Memory"] == host["MemorySwap"] == SandboxSpec().limits.memory
    assert host["LogConfig"]["Type"] == "none"


async def test_what_seccomp_denies(docker: DockerBackend) -> None:
    source = """
import ctypes, errno, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
def denied(number, *arguments):
    return libc.syscall(number, *arguments) == -1 and ctypes.get_errno()
x86 = {'ptrace': (101, 0), 'shmget': (29, 0, 4096, 0o1600), 'clone3': (435, 0, 0), 'unshare': (272, 0x10000000),
       'memfd_secret': (447, 0), 'userfaultfd': (323, 0), 'keyctl': (250, 0, -3, 0),
       'get_mempolicy': (239, 0, 0, 0, 0, 0), 'io_setup': (206, 1, 0), 'a huge memfd': (319, b'x', 4),
       'a huge mmap': (9, 0, 1 << 21, 3, 0x40022, -1, 0)}
if os.uname().machine == 'x86_64':
    for name, call in x86.items():
        assert denied(*call) == (errno.ENOSYS if name == 'clone3' else errno.EPERM), name
for family in (16, 17, 40):
    try:
        socket.socket(family, socket.SOCK_RAW if family != 40 else socket.SOCK_STREAM)
        raise SystemExit(f'a socket of family {family}')
    except PermissionError:
        pass
for protocol in (33, 132, 262):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        raise SystemExit(f'a socket of protocol {protocol}')
    except PermissionError:
        pass
server = socket.create_server(('127.0.0.1', 0))
socket.create_connection(server.getsockname())
os.mkfifo('fifo')
thread = threading.Thread(target=lambda: print('a thread runs'))
thread.start()
thread.join()
"""
    async with await docker.start(SandboxSpec(network="loopback")) as box:
        result = await box.python(source)
    assert (result.stdout, result.stderr) == (b"a thread runs\n", b"")


async def test_languages_of_the_image(docker: DockerBackend) -> None:
    async with await docker.start(SandboxSpec()) as box:
        assert (await box.exec(["node", "-e", "console.log(6 * 7)"])).stdout == b"42\n"
        await box.write("a.cc", b"#include <iostream>\nint main() { std::cout << 6 * 7; }\n")
        compiled = await box.exec(["g++", "-o", "a", "a.cc"], limits=ExecLimits(wall=60, cpu=60))
        assert compiled.ok, compiled.stderr
        assert (await box.exec(["./a"])).stdout == b"42"


async def test_cpu_and_memory_are_told(docker: DockerBackend) -> None:
    async with await docker.start(SandboxSpec()) as box:
        await box.exec(["true"])
        result = await box.python("x = b'a' * (100 << 20)\nimport time\nwhile time.process_time() < 0.5: pass")
        assert result.cpu is not None
        assert 0.5 <= result.cpu < 5
        assert result.peak_memory is not None
        assert 100 << 20 <= result.peak_memory < 300 << 20


async def test_processor_time_of_all_processes(docker: DockerBackend) -> None:
    spin = "import os\nfor _ in range(2): os.fork()\nwhile True: pass"
    async with await docker.start(SandboxSpec()) as box:
        result = await box.python(spin, limits=ExecLimits(cpu=1, wall=60))
        assert result.reason == "timeout"
        assert result.wall < 15


async def test_an_image_that_is_not_there(docker: DockerBackend) -> None:
    with pytest.raises(UsageError, match="docker pull no-such/image"):
        await docker.start(SandboxSpec(image="no-such/image"))
    assert "sandbox/build-image" not in str(await docker.available())
    why = await DockerBackend(image="no-such-image").available()
    assert isinstance(why, str)
    assert "no-such-image" in why


async def test_a_runtime_that_is_not_registered(docker: DockerBackend) -> None:
    why = await DockerBackend(runtime="no-such-runtime").available()
    assert isinstance(why, str)
    assert "no-such-runtime" in why


async def test_gvisor() -> None:
    backend = DockerBackend.variant("runsc")
    if isinstance(why := await backend.available(), str):
        pytest.skip(why)
    async with await backend.start(SandboxSpec()) as box:
        kernel = await box.exec(["uname", "-a"], limits=ExecLimits(wall=30))
        assert b"4.4.0" in kernel.stdout
        result = await box.python("print(42)", limits=ExecLimits(wall=30, pids=128))
        assert (result.stdout, result.stderr, result.cpu) == (b"42\n", b"", None)
        kept = await box.spawn(["cat"], limits=ExecLimits(wall=60, pids=128))
        assert (await box.exec(["sleep", "60"], limits=ExecLimits(wall=1, pids=128))).reason == "timeout"
        found = await box.exec(["sh", "-c", "cat /proc/[0-9]*/comm"], limits=ExecLimits(wall=30, pids=128))
        assert found.stdout.split().count(b"sleep") == 1  # the box's own
        await kept.write(b"still here")
        assert await kept.read(within=10) == b"still here"
    await backend.close()


async def test_no_daemon(tmp_path: Path) -> None:
    backend = DockerBackend(address=f"unix://{tmp_path}/docker.sock")
    why = await backend.available()
    assert isinstance(why, str)
    assert "setsid dockerd" in why
    with pytest.raises(InfraError, match="No docker daemon"):
        await backend.start(SandboxSpec())
    assert await backend.sweep() == 0


def test_the_package_docker_is_not_imported_before_it_is_needed() -> None:
    source = "import sys, envkit.sandbox.docker\nassert not {'docker', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", source], check=True)


def test_the_seccomp_profile_allows_by_name_only() -> None:
    from envkit.sandbox.docker.backend import SECCOMP

    profile = json.loads(SECCOMP.read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    forbidden = (
        "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd bpf perf_event_open io_uring_setup userfaultfd"
    )
    forbidden += (
        " keyctl add_key request_key mount umount2 chroot pivot_root unshare setns kexec_load init_module reboot"
    )
    forbidden += (
        " swapon quotactl settimeofday personality syslog open_by_handle_at vmsplice mbind move_pages shmget msgget"
    )
    forbidden += " semget memfd_secret"
    assert not allowed & set(forbidden.split())


def test_the_top_folder_shows_what_the_library_uses() -> None:
    from envkit.sandbox import tools, tunnel
    from envkit.sandbox.docker import backend

    folder = Path(__file__).parents[2] / "sandbox"
    for name, used in {
        "seccomp.json": backend.SECCOMP,
        "tunnel_inside.py": tunnel.INSIDE,
        "python_session.py": tools.SESSION,
    }.items():
        assert (folder / name).read_bytes() == used.read_bytes()
        assert f"`{name}`" in (folder / "README.md").read_text()


def test_usage_is_read_from_either_kind_of_cgroup() -> None:
    second = b"cpu.stat usage_usec 1500000\ncpu.stat user_usec 1\nmemory.peak 4096\nmemory.events oom_kill 2\n"
    first = (
        b"cpuacct/cpuacct.usage 1500000000\nmemory/memory.max_usage_in_bytes 4096\nmemory/memory.oom_control oom_kill 2"
    )
    assert Usage.of(second) == Usage.of(first) == Usage(cpu=1.5, peak=4096, oom_kills=2)
    assert Usage.of(b"\xff garbage\ncpu.stat usage_usec x\n") == Usage()
