"""Limits over all processes of an execution together: cgroups, of version 1 or a delegated version 2.

A lane is a cgroup that serves one execution at a time and is used again: making one takes longer than emptying one.
"""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envkit.sandbox import owners

_NEEDED = ("memory", "pids")
_GONE = (errno.ENOENT, errno.ENODEV)
"""Of a cgroup and of what is in it, once another has removed it."""


@dataclass(frozen=True)
class Cgroups:
    """Where this process may make cgroups: the folder of each controller. Version 2 has one for all."""

    version: int
    folders: dict[str, Path]

    @property
    def roots(self) -> list[Path]:
        return list(dict.fromkeys(self.folders.values()))

    def made(self) -> Cgroups | None:
        """Make them, and say which could be; None where too few could."""
        try:
            folders = {controller: root for controller, root in self.folders.items() if _make(root)}
            if not all(controller in folders for controller in _NEEDED):
                raise OSError(errno.EACCES, "no cgroups for memory and processes")
            if self.version == 2:
                _write(self.roots[0] / "cgroup.subtree_control", " ".join(f"+{name}" for name in _NEEDED))
        except OSError:
            self.remove()
            return None
        return Cgroups(self.version, folders)

    def lane(self, name: str) -> Lane:
        return Lane(self, {controller: folder / name for controller, folder in self.folders.items()})

    def remove(self) -> bool:
        """Whether all of it is gone."""
        gone = [remove(root) for root in self.roots]
        return all(gone)


def places(name: str) -> list[Cgroups]:
    """Where cgroups called `name` could be made, the best first, as far as it can be seen without making any."""
    mounts, own = _mounts(), _own()
    return [*_version_1(mounts, own, name), *_version_2(mounts, own, name)]


class Lane:
    """One cgroup with the limits of the execution that is in it."""

    def __init__(self, cgroups: Cgroups, folders: dict[str, Path]) -> None:
        self._version = cgroups.version
        self._memory, self._pids, self._cpu = folders["memory"], folders["pids"], folders.get("cpuacct")
        self._folders = list(dict.fromkeys(folders.values()))
        self._set: dict[Path, int] = {}
        self._kills = 0
        for folder in self._folders:
            folder.mkdir(exist_ok=True)
        self._peak = self._open_peak()

    def join(self) -> list[int]:
        """Descriptors through which a process enters: the kernel checks who opened them, not who writes."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self._folders]

    def limit(self, *, memory: int, pids: int) -> None:
        """OSError (EBUSY) where files that boxes left in memory take more than that."""
        if self._version == 1:
            self._limit_memory_1(memory)
            _write(self._memory / "memory.max_usage_in_bytes", "0")
        else:
            self._put(self._memory / "memory.max", memory)
            if int((self._memory / "memory.current").read_text()) > memory:  # version 1 refuses by itself
                raise OSError(errno.EBUSY, "files of the box take more memory than that")
            with suppress(OSError):
                self._put(self._memory / "memory.swap.max", 0)
                self._put(self._memory / "memory.oom.group", 1)
            if self._peak is not None:
                os.write(self._peak, b"reset\n")
        self._put(self._pids / "pids.max", pids)
        self._kills = self._oom_kills()

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed something in it since `limit`."""
        return self._oom_kills() > self._kills

    def peak_memory(self) -> int | None:
        """Bytes since `limit`; None where the kernel (before 6.12) cannot start anew."""
        if self._version == 1:
            return int((self._memory / "memory.max_usage_in_bytes").read_text())
        return int(os.pread(self._peak, 64, 0)) if self._peak is not None else None

    def cpu(self) -> float | None:
        """Seconds that everything in it has taken so far, ever."""
        if self._cpu is None:
            return None
        if self._version == 1:
            return int((self._cpu / "cpuacct.usage").read_text()) / 1e9
        found = re.search(r"^usage_usec (\d+)", (self._cpu / "cpu.stat").read_text())
        return int(found[1]) / 1e6 if found else None

    def remove(self) -> None:
        """What does not go now goes with all of its backend's cgroups, or by a sweep."""
        if self._peak is not None:
            os.close(self._peak)
            self._peak = None
        for folder in self._folders:
            remove(folder)

    def _limit_memory_1(self, memory: int) -> None:
        plain, with_swap = self._memory / "memory.limit_in_bytes", self._memory / "memory.memsw.limit_in_bytes"
        growing = memory > self._set.get(plain, 1 << 62)  # memory is never to be above memory and swap
        for path in (with_swap, plain) if growing else (plain, with_swap):
            if path.exists():
                self._put(path, memory)

    def _put(self, path: Path, value: int) -> None:
        if self._set.get(path) != value:
            _write(path, str(value))
            self._set[path] = value

    def _oom_kills(self) -> int:
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        found = re.search(r"^oom_kill (\d+)", (self._memory / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def _open_peak(self) -> int | None:
        if self._version == 1:
            return None
        with suppress(OSError):
            fd = os.open(self._memory / "memory.peak", os.O_RDWR | os.O_CLOEXEC)
            try:
                os.write(fd, b"reset\n")
            except OSError:
                os.close(fd)
            else:
                return fd
        return None


def remove(folder: Path) -> bool:
    """Remove a cgroup and those in it, and kill whatever is still there; whether it is gone. Blocks for up to 2 s."""
    deadline = time.monotonic() + 2.0
    try:
        for child in [entry for entry in folder.iterdir() if entry.is_dir()]:
            remove(child)
        while not _removed(folder) and time.monotonic() < deadline:
            for number in _processes(folder):
                owners.kill(number, lambda number=number: number in _processes(folder))
            time.sleep(0.01)  # the dead leave a cgroup a moment after they are waited for
    except OSError as error:
        return error.errno in _GONE
    return not folder.exists()


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _processes(folder: Path) -> list[int]:
    """Those in it, without those of other pid namespaces, which are all 0."""
    return [int(line) for line in (folder / "cgroup.procs").read_text().split() if int(line)]


def _version_1(mounts: dict[str, tuple[str, Path]], own: dict[str, str], name: str) -> list[Cgroups]:
    folders: dict[str, Path] = {}
    for controller in (*_NEEDED, "cpuacct"):
        if controller in mounts and controller in own:
            inside = _inside(mounts[controller], own[controller])
            if inside is not None and os.access(inside, os.W_OK):
                folders[controller] = inside / name
    return [Cgroups(1, folders)] if all(controller in folders for controller in _NEEDED) else []


def _version_2(mounts: dict[str, tuple[str, Path]], own: dict[str, str], name: str) -> list[Cgroups]:
    """The groups above us that hand on memory and pids, nearest first: ours cannot, because it has processes in it."""
    if "" not in mounts or "" not in own:
        return []
    top, inside = mounts[""][1], _inside(mounts[""], own[""])
    found: list[Cgroups] = []
    while inside is not None:
        handed_on = _read_words(inside / "cgroup.subtree_control")
        if os.access(inside / "cgroup.procs", os.W_OK) and set(_NEEDED) <= handed_on:
            controllers = (*_NEEDED, "cpuacct")  # cpu.stat is everywhere
            found.append(Cgroups(2, dict.fromkeys(controllers, inside / name)))
        inside = inside.parent if inside != top else None
    return found


def _make(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        return True
    return False


def _inside(mount: tuple[str, Path], own: str) -> Path | None:
    """Where our own cgroup is seen, given what of the hierarchy is mounted and where."""
    top, at = mount
    relative = os.path.relpath(own, top)
    if relative.startswith(".."):
        return None
    found = at / relative
    return found if found.is_dir() else None


def _mounts() -> dict[str, tuple[str, Path]]:
    """By controller, "" for version 2: what of its hierarchy is mounted, and where."""
    found: dict[str, tuple[str, Path]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if kind[0] == "cgroup2":
            found[""] = (fields[3], Path(fields[4]))
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                found[option] = (fields[3], Path(fields[4]))
    return found


def _own() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _read_words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
