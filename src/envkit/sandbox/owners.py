"""Owner records: what a process is about to make outside itself, so that a later one can take it down after a SIGKILL.

A record is written before the thing exists. Only records of this user, of this boot and of this pid namespace are
judged, and a living owner's things are never touched.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from envkit.errors import InfraError

PROC = Path("/proc")
_TEMPORARY = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
"""The same for all processes of the user, whatever TMPDIR one of them has."""


@dataclass(frozen=True)
class Owner:
    """A process that is never mistaken for a later one with the same number."""

    pid: int
    started: int
    """Clock ticks after boot."""
    boot: str
    namespace: str
    """The pid namespace in which `pid` is meant."""

    @property
    def of_this_boot(self) -> bool:
        """Whether its numbers mean anything: those of an earlier boot are others' by now."""
        return self.boot == _boot()

    @property
    def key(self) -> str:
        """A word that names it, for labels, folders and files: "1234-567890"."""
        return f"{self.pid}-{self.started}"

    def alive(self) -> bool:
        """Whether it still runs. True also where that cannot be seen from here: in another pid namespace."""
        if not self.of_this_boot:
            return False
        return self.namespace != _namespace() or start_time(self.pid) == self.started


@dataclass(frozen=True)
class Record:
    """What one owner made with one backend: names of things by their kind, as "pids", "folders" or "containers"."""

    owner: Owner
    backend: str
    things: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])


def current() -> Owner:
    """This process."""
    return Owner(os.getpid(), start_time(os.getpid()) or 0, _boot(), _namespace())


def write(record: Record) -> None:
    """Make or replace the record, whole or not at all."""
    path = _path(record)
    part = path.with_suffix(".part")
    owner = record.owner
    things = {kind: list(names) for kind, names in record.things.items()}
    part.write_text(
        json.dumps(
            {
                "pid": owner.pid,
                "started": owner.started,
                "boot": owner.boot,
                "namespace": owner.namespace,
                "backend": record.backend,
                "things": things,
            }
        )
    )
    part.replace(path)


def records(backend: str) -> Iterator[Record]:
    """This user's records of a backend, or of its parts ("slot-1" of "slot"); a sweep is for those of dead owners."""
    for path in sorted(_folder().glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):  # just dropped by another sweep, or not whole
            content = json.loads(path.read_text())
            owner = Owner(content["pid"], content["started"], content["boot"], content["namespace"])
            record = Record(owner, content["backend"], content["things"])
            if record.backend.split("-")[0] == backend and _path(record) == path:
                yield record


def drop(record: Record) -> None:
    """Forget the record, once its things are gone."""
    _path(record).unlink(missing_ok=True)


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks after boot; None where there is none, or only its remains.

    Without /proc, as on macOS, 0 for every process that there is: a later one with its number passes for it.
    """
    if not PROC.is_dir():
        return 0 if _exists(pid) else None
    try:
        stat_line = (PROC / f"{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    fields = stat_line.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def kill(pid: int, is_meant: Callable[[], bool]) -> None:
    """Kill a process if it is the one that is meant, which is asked while no other can get its number."""
    try:
        held = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except OSError:  # it is gone
        return
    try:
        with suppress(ProcessLookupError, PermissionError):
            if held is None and is_meant():
                os.kill(pid, signal.SIGKILL)
            elif held is not None and is_meant():
                signal.pidfd_send_signal(held, signal.SIGKILL)
    finally:
        if held is not None:
            os.close(held)


def user() -> str:
    """This user, in a word: the number where the system has one."""
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def is_ours(found: os.stat_result) -> bool:
    """Whether a file is this user's; where files have no such owners, the folder for temporary ones is the user's."""
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()


def _exists(pid: int) -> bool:
    """Whether there is such a process; True where it cannot be asked without harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _path(record: Record) -> Path:
    return _folder() / f"{record.owner.key}-{record.backend}.json"


def _folder() -> Path:
    """The folder of this user's records; InfraError where somebody else could have planted some."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    top = Path(runtime, "envkit") if runtime and Path(runtime).is_dir() else _TEMPORARY / f"envkit-{user()}"
    for folder in (top, top / "owners"):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        planted = not is_ours(found) or (os.name == "posix" and found.st_mode & 0o022)
        if not stat.S_ISDIR(found.st_mode) or planted:
            raise InfraError(f"{folder} is not a folder that only you can write: remove it, or set XDG_RUNTIME_DIR.")
    return top / "owners"


def _boot() -> str:
    boot = PROC / "sys/kernel/random/boot_id"
    return boot.read_text().strip() if boot.is_file() else ""


def _namespace() -> str:
    namespace = PROC / "self/ns/pid"
    return os.readlink(namespace) if namespace.is_symlink() else ""
