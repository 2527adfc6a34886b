"""`DockerBackend`: boxes as containers of a docker daemon, hardened so that nothing but the kernel itself is in reach.

A container carries its owner as a label, so that a sweep by anyone after the owner's death finds it, and ends by
itself when its lifetime is over.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from envkit.errors import InfraError, UsageError
from envkit.sandbox import find, owners, ways
from envkit.sandbox.base import Backend, Capabilities, Sandbox, SandboxSpec
from envkit.sandbox.docker import address as addresses
from envkit.sandbox.docker.box import FIRST_USER, KEEPER, RESERVE, USERS, DockerBox, remove
from envkit.sandbox.docker.daemon import Daemon, Refused

IMAGE = "envkit-sandbox"
BUILD = (
    f"run sandbox/build-image in a checkout of envkit, or `docker build -t {IMAGE} sandbox` where there is a registry"
)
OWNER, USER, HOST = "envkit.owner", "envkit.uid", "envkit.host"
"""Labels: the owning process, its user and its machine."""

NETWORKS = {"none": "none", "loopback": "none", "allow": "none", "open": "bridge"}
"""By the words of `Capabilities.network`. Docker's network "none" is a namespace with a loopback device of its own."""

GVISOR = "runsc"
GVISOR_NOTES = (
    "memory and processes are limited for the box, not for each execution: a program that uses up either may take the "
    "whole box with it, which is an InfraError and no verdict",
    "programs make their system calls to gVisor, which has no filter: what is refused elsewhere may work there, in it",
)
CPUS = 1.0
OPEN_FILES = 4096
SECCOMP = Path(__file__).with_name("seccomp.json")


class DockerBackend(Backend):
    """`runtime`: the daemon's runtime to use, as "runsc" for gVisor; its default if not given."""

    name = "docker"

    def __init__(self, *, image: str = IMAGE, runtime: str | None = None, address: str | None = None) -> None:
        self._image, self._runtime = image, runtime
        if runtime is not None:
            self.name = f"docker:{runtime}"
        self._daemon = Daemon(address)
        self._recorded: owners.Record | None = None

    @classmethod
    def variant(cls, word: str) -> DockerBackend:
        """With the runtime of this name."""
        return cls(runtime=word)

    async def available(self) -> Capabilities | str:
        if why := self._unreachable():
            return why
        try:
            info = await self._daemon.call("info")
            await self._daemon.call("inspect_image", self._image)
        except Refused as refusal:
            return self._no_image(self._image) if refusal.status == 404 else str(refusal)
        except InfraError:
            return addresses.silent(self._daemon.address)
        if self._runtime is not None and self._runtime not in info["Runtimes"]:
            known = ", ".join(sorted(info["Runtimes"]))
            return (
                f"The docker daemon has no runtime {self._runtime!r} (it has {known}): install it, register it in "
                "/etc/docker/daemon.json and start the daemon again."
            )
        arguments: list[str] = (info["Runtimes"][self._runtime].get("runtimeArgs") or []) if self._runtime else []
        if not any("seccomp" in option for option in info.get("SecurityOptions") or ()):
            return "The docker daemon was built without seccomp, so that its containers do not hold hostile code."
        if not (info.get("MemoryLimit") and info.get("PidsLimit")):
            return "The docker daemon cannot limit memory and processes here: the memory and pids cgroups are missing."
        return Capabilities(
            memory="--ignore-cgroups" not in arguments,
            network=frozenset(NETWORKS) - ({"open"} if "--network=none" in arguments else set()),
            images=True,
            root=True,
            ports=True,
            notes=(
                "disk and files hold for each of the working folder, /tmp and /dev/shm, whose contents count as memory",
                "an exit code of 128 + n is read as the signal n",
                *(GVISOR_NOTES if self._gvisor else ()),
            ),
        )

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """UsageError for an image that the daemon does not have: nothing is pulled."""
        ways.check(spec)
        if why := self._unreachable():
            raise InfraError(why)
        self._record()
        name = f"envkit-{owners.current().key}-{secrets.token_hex(6)}"
        user = 0 if spec.root else FIRST_USER + secrets.randbelow(USERS)
        try:
            await self._daemon.post(f"/containers/create?name={name}", self._container(spec, user))
            await self._daemon.call("start", name)
            box = DockerBox(self._daemon, name, spec, image=spec.image or self._image, user=user, fixed=self._gvisor)
            await box.begin()
            return box
        except Refused as refusal:
            await asyncio.shield(remove(self._daemon, name))
            if refusal.status == 404:
                raise UsageError(self._no_image(spec.image or self._image)) from refusal
            raise
        except BaseException:
            await asyncio.shield(remove(self._daemon, name))
            raise

    async def sweep(self) -> int:
        """Remove the containers of this user's dead processes on this machine: those of this daemon, which their labels
        tell. The records only say to others that there is something to sweep."""
        if self._unreachable():
            return 0
        dead = [each for each in owners.records("docker") if not each.owner.alive()]
        mine = [f"{OWNER}", f"{USER}={owners.user()}", f"{HOST}={socket.gethostname()}"]
        found = await self._daemon.call("containers", all=True, filters={"label": mine})
        left = [one["Id"] for one in found if not _owner(one["Labels"][OWNER]).alive()]
        await asyncio.gather(*[remove(self._daemon, container) for container in left])
        for record in dead:
            if self._daemon.address in record.things.get("daemons", ()):
                owners.drop(record)
        return len(left)

    async def close(self) -> None:
        recorded, self._recorded = self._recorded, None
        if recorded is not None and recorded.owner == owners.current():
            owners.drop(recorded)
        await self._daemon.close()

    def _record(self) -> None:
        """Once in a process, before its first box."""
        if self._recorded is None or self._recorded.owner != owners.current():
            things = {"daemons": [self._daemon.address]}
            self._recorded = owners.Record(owners.current(), f"docker-{id(self):x}", things)
            owners.write(self._recorded)

    @property
    def _gvisor(self) -> bool:
        return (self._runtime or "").startswith(GVISOR)

    def _unreachable(self) -> str:
        return addresses.unreachable(self._daemon.address)

    def _no_image(self, image: str) -> str:
        how = BUILD if image == IMAGE else f"`docker pull {image}`"
        return f"The docker daemon has no image {image!r}: {how}."

    def _container(self, spec: SandboxSpec, user: int) -> dict[str, Any]:
        """Docker's description of the box."""
        limits = spec.limits
        places = {"/dev/shm": "mode=1777,noexec"}
        if not spec.root:
            places |= {"/tmp": "mode=1777", **dict.fromkeys((spec.workdir, *spec.folders), "mode=755")}
        own = f"rw,nosuid,nodev,exec,size={limits.disk},nr_inodes={limits.files},uid={user},gid={user}"
        owner = json.dumps(asdict(owners.current()))
        # The box's own two processes are another user's than its programs, who cannot signal them. Where that is root,
        # our scripts are root's too and may kill; programs have no capability at all, and cannot gain this one.
        keeper, capabilities = (KEEPER, []) if spec.root else (0, ["KILL"])
        return {
            "Image": spec.image or self._image,
            "Entrypoint": ["sleep", str(max(1, round(spec.lifetime)))],
            "Cmd": [],
            "User": f"{keeper}:{KEEPER}",
            "WorkingDir": spec.workdir if spec.root else "/",
            "Hostname": "box",
            "Env": ["LANG=C.UTF-8"],
            "Labels": {OWNER: owner, USER: owners.user(), HOST: socket.gethostname()},
            "HostConfig": {
                "AutoRemove": True,
                "Init": True,
                "Runtime": self._runtime or "",
                "NetworkMode": NETWORKS[find.network_kind(spec.network)],
                "IpcMode": "private",
                "ReadonlyRootfs": not spec.root,
                "Tmpfs": {place: f"{own},{mode}" for place, mode in places.items()},
                "Memory": limits.memory,
                "MemorySwap": limits.memory,
                "PidsLimit": limits.pids + RESERVE,
                "NanoCpus": round(CPUS * 1e9),
                "OomScoreAdj": 500,
                "CapDrop": ["ALL"],
                "CapAdd": capabilities,
                "GroupAdd": [str(user)],
                "SecurityOpt": ["no-new-privileges:true", f"seccomp={SECCOMP.read_text()}"],
                "LogConfig": {"Type": "none", "Config": {}},
                "Ulimits": [
                    {"Name": "core", "Soft": 1, "Hard": 1},  # as in a slot, see `slot.run.CORE_BYTES`
                    {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
                    {"Name": "msgqueue", "Soft": 0, "Hard": 0},
                ],
            },
        }


def _owner(label: str) -> owners.Owner:
    """Who wrote the label; any other text names an owner who lives, for a label may be anybody's."""
    try:
        return owners.Owner(**json.loads(label))
    except (ValueError, TypeError):
        return owners.current()
