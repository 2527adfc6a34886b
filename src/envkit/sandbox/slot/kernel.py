"""The system calls that Python does not have, through ctypes.

It runs inside slots too, where envkit is not there to be imported: the standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 38, 47
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446  # everywhere alike

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    _check(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    done = _libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode(), flags, data.encode())
    _check(done, f"mount {fstype or source} on {target}")


def bind(source: str, target: str) -> None:
    """Make `source` and all that is mounted below it appear at `target`."""
    mount(source, target, flags=MS_BIND | MS_REC)


def unmount(target: str) -> None:
    """At once, also where it is in use."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def mount_attributes(target: str, attributes: int) -> None:
    """Set attributes on a mount and all below it (Linux 5.12)."""
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    done = _syscall(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, wanted, len(wanted))
    _check(done, f"mount_setattr {target}")


def pivot_root(new: str, old: str) -> None:
    _check(_syscall(_PIVOT_ROOT[os.uname().machine], os.fsencode(new), os.fsencode(old)), "pivot_root")


def die_with_parent(signal: int) -> None:
    """Have the kernel send us this signal when the thread that started us ends. Forgotten when ids change."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def set_dumpable(dumpable: bool) -> None:
    """Whether others of our uid may look into our memory and our /proc entries."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def forgo_privileges() -> None:
    """No program that we start can gain any, for good: an empty bounding set, no_new_privs."""
    for capability in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:  # beyond the last one
                raise
            break
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    _prctl(_PR_CAP_AMBIENT, 4)  # clear all
    header = struct.pack("Ii", 0x20080522, 0)  # version 3, ourselves
    _check(_libc.capset(header, bytes(24)), "capset")


class Filter:
    """A seccomp program in memory, ready to be installed by this process or its forks."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        self._header = ctypes.create_string_buffer(
            struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(self._code))
        )
        self._address = ctypes.addressof(self._header)

    def install(self) -> None:
        """From here on, for this process and everything that it starts. Needs no_new_privs."""
        _prctl(_PR_SET_SECCOMP, 2, self._address)


_LANDLOCK_WRITES = (1 << 1) | 0b11111111110000
"""Write to files; remove, make and (from ABI 2) move anything: bits 4 to 13."""
_LANDLOCK_FILE = 1 << 1


def landlock(writable: list[str], devices: str) -> int | None:
    """A ruleset under which only the folders `writable` can be changed; None where the kernel has no Landlock."""
    abi = _syscall(_LANDLOCK_CREATE, None, 0, 1)
    if abi < 2:  # the first version forbids every move between folders
        return None
    truncate = 1 << 14 if abi >= 3 else 0
    handled = struct.pack("Q", _LANDLOCK_WRITES | truncate)
    ruleset = _check(_syscall(_LANDLOCK_CREATE, handled, len(handled), 0), "landlock_create_ruleset")
    for folder in writable:
        _landlock_allow(ruleset, folder, _LANDLOCK_WRITES | truncate)
    _landlock_allow(ruleset, devices, _LANDLOCK_FILE | truncate)
    return ruleset


def _landlock_allow(ruleset: int, folder: str, access: int) -> None:
    fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", access, fd)
        _check(_syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock_add_rule {folder}")
    finally:
        os.close(fd)


def landlock_restrict(ruleset: int) -> None:
    _check(_syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")


def loopback_up() -> None:
    """Bring up "lo" of our network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = b"lo".ljust(16, b"\0")
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, 0x8913, name + bytes(24)), 16)  # SIOCGIFFLAGS
        fcntl.ioctl(any_socket, 0x8914, name + struct.pack("H", flags | 1) + bytes(22))  # SIOCSIFFLAGS, IFF_UP


def _prctl(option: int, value: int = 0, third: int = 0) -> None:
    _check(_libc.prctl(option, value, third, 0, 0), f"prctl {option}")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
