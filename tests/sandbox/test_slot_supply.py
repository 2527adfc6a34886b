"""The slots themselves: replaced, worn, used from several loops, swept, without rights, with images, without memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
from pathlib import Path

import pytest
from sandbox.slots import SMALL, assert_healthy, box, slots

from envkit.errors import InfraError, UsageError
from envkit.sandbox import owners
from envkit.sandbox.base import ExecLimits, KiB, MiB, SandboxSpec
from envkit.sandbox.slot.backend import SlotBackend
from envkit.sandbox.slot.slot import EXECUTIONS_PER_SLOT

LIMITS = ExecLimits.model_validate(SMALL)


# Slots


async def test_eight_boxes_at_once_keep_to_themselves() -> None:
    async with slots() as (backend, _):

        async def one(number: int) -> bytes:
            async with await backend.start(SandboxSpec()) as opened:
                await opened.write("mine", b"%d" % number)
                return (await opened.exec(["sh", "-c", "cat *; ls /proc | grep -c '^[0-9]'"])).stdout

        seen = await asyncio.gather(*(one(number) for number in range(8)))
        assert [text[0:1] for text in seen] == [b"%d" % number for number in range(8)]
        assert len({text[1:] for text in seen}) == 1


async def test_a_slot_whose_init_was_killed_is_replaced() -> None:
    async with slots() as (backend, _):
        opened = await backend.start(SandboxSpec())
        running = asyncio.create_task(opened.exec(["sleep", "60"]))
        await asyncio.sleep(0.1)
        os.kill(opened._slot.pids[1], signal.SIGKILL)
        with pytest.raises(InfraError, match="new box"):
            await running
        with pytest.raises(InfraError, match="new one"):
            await opened.exec(["true"])
        await opened.close()
        for slot in backend._idle:
            os.kill(slot.pids[1], signal.SIGKILL)
        async with await backend.start(SandboxSpec()) as again:
            await assert_healthy(again)


async def test_a_slot_that_does_not_answer_is_replaced() -> None:
    async with slots() as (backend, _):
        async with await backend.start(SandboxSpec()) as opened:
            os.kill(opened._slot.pids[1], signal.SIGSTOP)
            result = await opened.exec(["sleep", "60"], limits=ExecLimits(wall=0.2))
            assert result.reason == "timeout"
            assert not any(owners.start_time(pid) for pid in opened._slot.pids)
        async with await backend.start(SandboxSpec()) as again:
            await assert_healthy(again)


async def test_a_worn_slot_is_not_used_again() -> None:
    async with slots() as (backend, _):
        async with await backend.start(SandboxSpec()) as opened:
            pids = opened._slot.pids
            opened._slot.executions = EXECUTIONS_PER_SLOT
        assert not any(owners.start_time(pid) for pid in pids)
        assert all(slot.pids != pids for slot in backend._idle)


def test_it_works_in_several_loops_and_threads_and_after_a_fork() -> None:
    backend = SlotBackend()

    async def main() -> bytes:
        async with await backend.start(SandboxSpec()) as opened:
            return (await opened.python("print(6 * 7)")).stdout

    try:
        found = asyncio.run(backend.available())
        if isinstance(found, str):
            pytest.skip(found)
        assert [asyncio.run(main()) for _ in range(2)] == [b"42\n"] * 2
        seen: list[bytes] = []
        threads = [threading.Thread(target=lambda: seen.append(asyncio.run(main()))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [b"42\n"] * 3
        child = os.fork()
        if not child:
            try:
                right = asyncio.run(main()) == b"42\n"
                asyncio.run(backend.close())
                os._exit(0 if right else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert asyncio.run(main()) == b"42\n"
    finally:
        asyncio.run(backend.close())


async def test_closing_leaves_no_process_cgroup_or_record() -> None:
    def recorded() -> set[str]:
        return {record.backend for record in owners.records("slot") if record.owner == owners.current()}

    before = recorded()
    async with slots() as (backend, found):
        async with await backend.start(SandboxSpec()) as opened:
            await assert_healthy(opened)
        pids = [pid for slot in backend._slots for pid in slot.pids]
        roots = backend._cgroups.roots if backend._cgroups is not None else []
        assert all(owners.start_time(pid) for pid in pids)
        assert bool(roots) == found.memory
        assert all(root.is_dir() for root in roots)
    assert not any(owners.start_time(pid) for pid in pids)
    assert not any(root.exists() for root in roots)
    assert recorded() <= before


SUPERVISOR = """
import asyncio, os, signal, sys
from envkit.sandbox.base import SandboxSpec
from envkit.sandbox.slot.backend import SlotBackend
async def main():
    backend = SlotBackend()
    box = await backend.start(SandboxSpec())
    await box.spawn(["sleep", "100"])
    print(*[pid for slot in backend._slots for pid in slot.pids], flush=True)
    print(*(backend._cgroups.roots if backend._cgroups else []), flush=True)
    await asyncio.sleep(100)
asyncio.run(main())
"""


async def test_what_a_killed_supervisor_left_is_swept() -> None:
    async with slots() as (backend, _), await backend.start(SandboxSpec()) as opened:
        with subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True) as supervisor:
            assert supervisor.stdout is not None
            pids = [int(word) for word in supervisor.stdout.readline().split()]
            roots = [Path(word) for word in supervisor.stdout.readline().split()]
            assert len(pids) >= 2
            assert await backend.sweep() == 0  # it lives
            assert all(owners.start_time(pid) for pid in pids[:2])
            supervisor.send_signal(signal.SIGKILL)
        assert await backend.sweep() >= 1
        assert not any(owners.start_time(pid) for pid in pids)
        assert not any(root.exists() for root in roots)
        assert await backend.sweep() == 0
        await assert_healthy(opened)


async def test_without_rights_it_isolates_as_well() -> None:
    """As nobody, with the system's Python, because root's own is not for others to read."""
    if os.getuid() != 0:
        pytest.skip("the other tests are run without rights already")
    system = Path("/usr/bin/python3")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if system.resolve().name != version:
        pytest.skip(f"needs {version} in /usr/bin, which others than root can read")
    script = textwrap.dedent("""
        import asyncio
        from envkit.sandbox.base import ExecLimits, SandboxSpec
        from envkit.sandbox.slot.backend import SlotBackend
        async def main():
            backend = SlotBackend()
            found = await backend.available()
            if isinstance(found, str): return print("skip", found)
            assert not found.memory
            async with await backend.start(SandboxSpec()) as box:
                print((await box.python("print(6 * 7)")).stdout)
                print((await box.python("while True: pass", limits=ExecLimits(wall=0.3))).reason)
                print((await box.python("import os\\nwhile True:\\n  try: os.fork()\\n  except OSError: pass",
                                        limits=ExecLimits(wall=0.5))).reason)
                print((await box.exec(["sh", "-c", "grep CapEff /proc/self/status; ls /root 2>&1"])).stdout)
            await backend.close()
        asyncio.run(main())
    """)
    path = os.pathsep.join(entry for entry in sys.path if entry and not entry.startswith(sys.base_prefix))
    result = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(system), "-B", "-c", script],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.stdout.startswith("skip"):
        pytest.skip(result.stdout)
    assert result.stdout.splitlines() == [
        "b'42\\n'",
        "timeout",
        "timeout",
        repr(b"CapEff:\t0000000000000000\nls: cannot access '/root': No such file or directory\n"),
    ], result.stderr


# Images


async def test_an_image_is_a_folder_or_a_tar_archive(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("usr", "bin", "lib", "lib64"):
        target = Path("/", name)
        if target.is_symlink():
            (root / name).symlink_to(target.readlink())
    (root / "usr/bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/image").write_text("mine")
    (root / "home").mkdir()
    (root / "opt").write_text("no folder")
    for path in ["/bin/sh", "/bin/cat", *_libraries("/bin/sh"), *_libraries("/bin/cat")]:
        copy = Path(str(root) + os.path.realpath(Path(path).parent), Path(path).name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(path).read_bytes())
        copy.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    packed = tmp_path / "image.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(root, arcname=".")
    async with slots() as (backend, _):
        for image in (str(root), str(packed)):
            async with await backend.start(SandboxSpec(image=image, workdir="/home")) as opened:
                result = await opened.exec(["sh", "-c", "pwd; cat /etc/image; echo x > y && cat y"])
                assert result.stdout == b"/home\nminex\n", result
                assert (await opened.python("print(1)")).code == 127  # there is none in it
                assert await opened.read("y") == b"x\n"
            for missing in ({"workdir": "/home/user/x"}, {"folders": ("/opt",)}):
                with pytest.raises(UsageError, match=r"no folder /(home/user/x|opt) in it"):
                    await backend.start(SandboxSpec(image=image, **missing))
        folders = list(backend._images.folders)
        assert len(folders) == 1
    assert not folders[0].exists()


def _libraries(program: str) -> list[str]:
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for word in text.split() if word.startswith("/")]


async def test_endless_output_costs_no_memory() -> None:
    async with box() as opened:
        before = _resident()
        for _ in range(3):
            await opened.exec(["yes"], limits=ExecLimits(output=64 * KiB))
        assert _resident() - before < 20 * MiB


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
