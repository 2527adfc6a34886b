"""`SlotBackend`: slots that are started ahead, kept warm between boxes, and replaced when they are worn or lost."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import platform
import secrets
import shutil
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from envkit.errors import InfraError, UsageError
from envkit.sandbox import owners, ways
from envkit.sandbox.base import Backend, Capabilities, SandboxSpec
from envkit.sandbox.slot import cgroups, seccomp
from envkit.sandbox.slot.box import SlotBox
from envkit.sandbox.slot.cgroups import Cgroups
from envkit.sandbox.slot.images import Images
from envkit.sandbox.slot.slot import Make, Slot, SlotLost, interpreter_folders

OLDEST_KERNEL = (5, 12)
"""mount_setattr: a whole tree read-only at once."""

TAKEN = ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "tmp", "usr")
"""What a workdir may not be below."""

GONE_SECONDS = 5.0
"""How long a sweep waits for what it has killed."""


class SlotBackend(Backend):
    """Boxes in namespaces of this machine's kernel. It needs no rights and no set-up; limits on the memory of all
    processes together need cgroups that this user may use."""

    name = "slot"

    def __init__(self, *, idle: int | None = None) -> None:
        """`idle` is the most slots that are kept for later boxes: one for each core, and at least 2, if not given."""
        self._most_idle = max(2, os.cpu_count() or 1) if idle is None else idle
        self._capabilities: Capabilities | str | None = None
        self._new_process()

    async def available(self) -> Capabilities | str:
        if self._capabilities is None:
            self._capabilities = _missing() or await self._try()
        return self._capabilities

    async def start(self, spec: SandboxSpec) -> SlotBox:
        _check(spec)
        loop = asyncio.get_running_loop()
        image = None
        if spec.image is not None:
            image = await loop.run_in_executor(self._thread(), self._unpack, spec.image)
            _check_mount_points(spec, image)
        make = Make(image, spec.workdir, spec.folders)
        while (slot := self._take_idle(make)) is not None:
            with suppress(SlotLost):  # it died while it was idle, as slots of a machine short of memory do
                return await self._open(slot, spec)
        return await self._open(await self._fresh(make), spec)

    async def _open(self, slot: Slot, spec: SandboxSpec) -> SlotBox:
        self._refill_soon(slot.make)
        slot.attach(asyncio.get_running_loop())
        try:
            limits = spec.limits
            await slot.open(disk=limits.disk, files=limits.files, loopback=spec.network != "none")
        except BaseException:
            slot.detach()
            await self._retire(slot)
            raise
        box = SlotBox(spec, slot, path=_path(slot.make.image), cgroups=self._cgroups, give_back=self._take_back)
        if not isinstance(spec.network, str):
            await box.begin()
        return box

    async def sweep(self) -> int:
        return await asyncio.get_running_loop().run_in_executor(None, _sweep)

    async def close(self) -> None:
        with self._lock:
            thread = self._starter
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._end_all)
            with self._lock:
                self._starter = None
            thread.shutdown(wait=False)

    async def _try(self) -> Capabilities | str:
        """The proof that it works: a program that must print 42, and a host's file that it must not see."""
        try:
            async with await self.start(SandboxSpec()) as box:
                result = await box.python("import os; print(6 * 7, os.path.exists('/proc/1/root/etc'))")
        except InfraError as error:
            return f"{error} Slots need user namespaces: in a container, allow them, or run it privileged."
        if result.stdout != b"42 False\n":
            return f"A first program in a slot ended wrongly: {result!r}"
        notes = () if self._cgroups is not None else ("no cgroups: memory and processor time are limited per process",)
        return Capabilities(
            memory=self._cgroups is not None,
            network=frozenset({"none", "loopback", "allow"}),
            images=True,
            ports=True,
            notes=notes,
        )

    # Slots. Everything that starts or ends one runs in the starter thread: it may block, and the kernel ends slots
    # when the thread that started them ends.

    async def _fresh(self, make: Make) -> Slot:
        starting = asyncio.get_running_loop().run_in_executor(self._thread(), self._begin, make)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._keep_unwanted)
            raise

    def _refill_soon(self, make: Make) -> None:
        """Have one slot more than is in use, started in the background."""
        with self._lock:
            ready = any(each.make == make for each in self._idle)
            refill = not ready and self._most_idle > 0 and make not in self._refilling
            if refill:
                self._refilling.add(make)
        if refill:
            self._thread().submit(self._refill, make)

    def _take_idle(self, make: Make) -> Slot | None:
        while True:
            with self._lock:
                slot = next((each for each in self._idle if each.make == make), None)
                if slot is None:
                    return None
                self._idle.remove(slot)
            if slot.alive:
                return slot
            self._thread().submit(self._finish, slot)

    def _keep_unwanted(self, starting: asyncio.Future[Slot]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._keep(starting.result())

    async def _take_back(self, slot: Slot) -> None:
        if slot.lost or slot.worn:
            await self._retire(slot)
        else:
            self._keep(slot)

    def _keep(self, slot: Slot) -> None:
        with self._lock:
            self._idle.append(slot)
            surplus = self._idle[: max(0, len(self._idle) - self._most_idle)]
            del self._idle[: len(surplus)]
        for oldest in surplus:
            self._thread().submit(self._finish, oldest)

    async def _retire(self, slot: Slot) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread(), self._finish, slot)

    def _begin(self, make: Make) -> Slot:
        self._set_up()
        self._started += 1
        slot = Slot.start(make, self._started)
        self._slots.append(slot)
        self._record()
        return slot

    def _refill(self, make: Make) -> None:
        try:
            with suppress(InfraError):  # the next box that needs one gets the error
                self._keep(self._begin(make))
        finally:
            with self._lock:
                self._refilling.discard(make)

    def _finish(self, slot: Slot) -> None:
        slot.end()
        with suppress(ValueError):
            self._slots.remove(slot)
            self._record()

    def _set_up(self) -> None:
        """Once in a process: say what will be made, then make it."""
        if self._recorded is not None:
            return
        places = cgroups.places(secrets.token_hex(8))  # programs can read the name, which is to tell them nothing
        self._roots = [root for place in places for root in place.roots]
        self._recorded = owners.Record(owners.current(), f"slot-{id(self):x}")
        self._record()
        self._cgroups = next((made for place in places if (made := place.made()) is not None), None)
        _register_hooks()
        _alive.add(self)

    def _record(self) -> None:
        if self._recorded is None:
            return
        things = {
            "slots": [" ".join(f"{pid}:{owners.start_time(pid) or 0}" for pid in slot.pids) for slot in self._slots],
            "cgroups": [str(root) for root in self._roots],
            "folders": [str(folder) for folder in self._images.folders],
        }
        self._recorded = owners.Record(self._recorded.owner, self._recorded.backend, things)
        owners.write(self._recorded)

    def _unpack(self, image: str) -> Path:
        self._set_up()
        return self._images.folder(image, self._record)

    def _end_all(self) -> None:
        """Leave nothing: slots, cgroups, images, the record."""
        for slot in list(self._slots):
            slot.end()
        self._images.remove()
        gone = self._cgroups is None or self._cgroups.remove()
        if self._recorded is not None and gone:
            owners.drop(self._recorded)  # or the next sweep goes on
        self._forget()

    def _thread(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._starter is None:
                self._starter = ThreadPoolExecutor(1, thread_name_prefix="envkit-slots")
            return self._starter

    def _new_process(self) -> None:
        self._lock = threading.Lock()
        self._starter: ThreadPoolExecutor | None = None
        self._forget()

    def _forget(self) -> None:
        self._idle: list[Slot] = []
        self._slots: list[Slot] = []
        self._refilling: set[Make] = set()
        self._started = 0
        self._recorded: owners.Record | None = None
        self._cgroups: Cgroups | None = None
        self._roots: list[Path] = []
        self._images = Images()

    def _after_fork(self) -> None:
        """In the child: the slots are the parent's, who goes on using them."""
        for slot in self._slots:
            slot.let_go()
        self._new_process()


_alive: weakref.WeakSet[SlotBackend] = weakref.WeakSet()


@functools.cache
def _register_hooks() -> None:
    atexit.register(lambda: [backend._end_all() for backend in list(_alive)])  # pyright: ignore[reportPrivateUsage]
    os.register_at_fork(after_in_child=lambda: [backend._after_fork() for backend in list(_alive)])  # pyright: ignore[reportPrivateUsage]


def _missing() -> str | None:
    """One sentence about what this machine lacks, as far as it can be seen without trying."""
    if sys.platform != "linux":
        return f"Slots need Linux, and this is {sys.platform}: use docker."
    if not seccomp.supported(os.uname().machine):
        return f"Slots have no system call filter for {os.uname().machine}: use docker."
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < OLDEST_KERNEL:
        return f"Slots need Linux 5.12 or later, and this is {platform.release()}: use docker."
    return None


def _check(spec: SandboxSpec) -> None:
    if spec.network == "open":
        raise UsageError("A slot has no open network, but 'none', 'loopback' or Allow(hosts): use the docker backend.")
    ways.check(spec)
    if spec.root:
        raise UsageError("Programs in a slot cannot be root, nor change its image: use the docker backend.")
    places = [spec.workdir, *spec.folders]
    for place in places:
        _check_place(spec, place, "workdir" if place == spec.workdir else "folder")
    if any(a != b and Path(a).is_relative_to(b) for a in places for b in places) or len({*places}) < len(places):
        raise UsageError(f"The workdir and folders of a box lie beside each other: {', '.join(places)}.")


def _check_place(spec: SandboxSpec, place: str, kind: str) -> None:
    if not place.startswith("/") or os.path.normpath(place) != place or place == "/":
        raise UsageError(f"The {kind} {place!r} is no absolute path of a folder below /.")
    if place.split("/")[1] in TAKEN:
        raise UsageError(f"The {kind} {place!r} is where a slot has its system: choose another, as /work.")
    prefixes = [Path(prefix) for prefix in interpreter_folders()]
    if spec.image is None and any(Path(place).is_relative_to(prefix) for prefix in prefixes):
        raise UsageError(f"The {kind} {place!r} is where a slot has its Python: choose another, as /work.")


def _check_mount_points(spec: SandboxSpec, image: Path) -> None:
    """A folder at the top can be made beside those of an image; inside of them nothing can, they are only read."""
    for place in (spec.workdir, *spec.folders):
        top = Path(place).parts[1]
        if os.path.lexists(image / top) and not os.path.isdir(f"{image}{place}"):
            raise UsageError(
                f"The image {spec.image!r} has /{top}, but no folder {place} in it, and a slot cannot add one: have it "
                "in the image, or choose a folder at the top, as /work."
            )


def _path(image: Path | None) -> str:
    system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    own = [] if image is not None else [f"{prefix}/bin" for prefix in interpreter_folders()[:1]]
    return ":".join([*own, *system])


def _sweep() -> int:
    swept = 0
    for record in owners.records("slot"):
        if record.owner.alive():
            continue
        slots = record.things.get("slots", ())
        pids = [tuple(int(part) for part in each.split(":")) for slot in slots for each in slot.split()]
        if record.owner.of_this_boot:
            _kill([(pid, started) for pid, started in pids if started])
        gone = [cgroups.remove(Path(folder)) for folder in record.things.get("cgroups", ())]
        for folder in record.things.get("folders", ()):
            shutil.rmtree(folder, ignore_errors=True)
        if all(gone):
            owners.drop(record)  # or the next sweep goes on
        swept += len(slots)
    return swept


def _kill(processes: list[tuple[int, int]]) -> None:
    """Those of them that still are who they were; returns when they are gone."""
    deadline = time.monotonic() + GONE_SECONDS
    for pid, started in processes:
        owners.kill(pid, lambda pid=pid, started=started: owners.start_time(pid) == started)
    while any(owners.start_time(pid) == started for pid, started in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
