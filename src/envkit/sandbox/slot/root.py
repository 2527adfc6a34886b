"""The read-only root of a slot: the host's programs and libraries, or an image, with nothing of the host's own in it.

It runs inside the slot's mount namespace: the standard library only.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from . import kernel

OLD = "/.old"
"""Where the host's root is while the new one is made."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_LOADER = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_ETC = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nbox:x:{uid}:{uid}:box:{workdir}:/bin/sh\n",
    "group": "root:x:0:\nbox:x:{uid}:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "hostname": "box\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}


def build(*, image: str | None, prefixes: list[str], folders: list[str], uid: int) -> None:
    """Make the root and pivot into it. The host's root is gone afterwards but for /proc, which a new one covers.

    `prefixes` are folders of the host that are to be seen at their own place; `folders` the places where file systems
    will be mounted. Whoever calls has a mount namespace of its own and CAP_SYS_ADMIN in it.
    """
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("root", "/tmp", "tmpfs", kernel.MS_NOSUID, "size=1m,nr_inodes=1k,mode=755")
    os.mkdir("/tmp" + OLD)
    kernel.pivot_root("/tmp", "/tmp" + OLD)
    os.chdir("/")
    if image is None:
        _system(prefixes, uid, folders[0])
    else:
        _image(image)
    for folder in ("/proc", "/dev", *folders):
        _make(folder)
    for device in _DEVICES:
        with open(f"/dev/{device}", "w"):
            pass
        _bind_read_only(f"{OLD}/dev/{device}", f"/dev/{device}", nodev=0)  # written to all the same, but not touched
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"/dev/{name}")
    os.symlink("/proc/self/fd", "/dev/fd")
    kernel.mount_attributes("/", kernel.MOUNT_ATTR_NOSUID)
    kernel.bind(f"{OLD}/proc", "/proc")  # the kernel mounts a proc for us only where one can be seen already


def seal() -> None:
    """Let go of the host's root, and make the new one read-only."""
    kernel.unmount(OLD)
    os.rmdir(OLD)
    _mount_options("/", kernel.MS_RDONLY | kernel.MS_NOSUID)


def _system(prefixes: list[str], uid: int, workdir: str) -> None:
    for path in _SYSTEM:
        _show(path)
    _make("/etc")
    for path in _LOADER:
        _show(path)
    for name, text in _ETC.items():
        with open(f"/etc/{name}", "w") as file:
            file.write(text.format(uid=uid, workdir=workdir))
    for prefix in prefixes:
        if not os.path.isdir(prefix):
            _show(prefix)


def _image(image: str) -> None:
    for entry in os.listdir(OLD + image):
        if entry not in ("proc", "dev", "sys"):
            _show(f"/{entry}", source=f"{OLD}{image}/{entry}")


def _show(path: str, *, source: str | None = None) -> None:
    """Have what the host has at `source`, by default at the same path, at this path, for reading."""
    source = source or OLD + path
    if os.path.islink(source):
        os.symlink(os.readlink(source), path)
    elif os.path.isdir(source):
        _make(path)
        _bind_read_only(source, path)
    elif os.path.isfile(source):
        with open(path, "w"):
            pass
        _bind_read_only(source, path)


def _bind_read_only(source: str, path: str, *, nodev: int = kernel.MOUNT_ATTR_NODEV) -> None:
    kernel.bind(source, path)
    kernel.mount_attributes(path, kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | nodev)


def _make(folder: str) -> None:
    """A folder and those above it, 0755 whatever the umask; one in an image must be there already."""
    path = ""
    for part in folder.strip("/").split("/"):
        path += "/" + part
        with suppress(FileExistsError):
            os.mkdir(path)
            os.chmod(path, 0o755)


def _mount_options(path: str, flags: int) -> None:
    kernel.mount("none", path, flags=flags | 32 | kernel.MS_BIND)  # MS_REMOUNT


def own_folders(config: dict[str, Any]) -> list[str]:
    """What programs may write to: the workdir first, /dev/shm last."""
    return [config["workdir"], *config["folders"], "/tmp", "/dev/shm"]


def box_files(folders: list[str], options: dict[str, Any]) -> None:
    """A box's own files: one file system, so that its limits hold for all its folders together."""
    size, files = int(options["disk"]), int(options["files"])
    # tmpfs counts the places themselves as files too
    limits = f"size={size},nr_inodes={files + len(folders) + 1},mode=755"
    kernel.mount("box", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, limits)
    for number, place in enumerate(folders):
        part = f"/dev/shm/{number}"
        os.mkdir(part)
        os.chmod(part, 0o1777 if place in ("/tmp", "/dev/shm") else 0o755)
        kernel.bind(part, place)


def drop_files(folders: list[str]) -> None:
    for place in ("/dev/shm", *reversed(folders)):
        kernel.unmount(place)
