"""The seccomp filter of a slot's programs, assembled by hand: what of the kernel a stranger's program can reach.

Everything that no ordinary program needs and that has been a way out before is refused with EPERM. Calls that are newer
than this list do not exist for the program (ENOSYS), and neither does `clone3`, whose flags a filter cannot see:
libc falls back to `clone`, whose flags it can.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

LAST_KNOWN = 462
"""mseal, Linux 6.10. From 424 on the numbers are the same on every architecture."""

_DENIED = {
    # name: (x86_64, aarch64), None where the architecture has no such call
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "unshare": (272, 97),
    "setns": (308, 268),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "nfsservctl": (180, 42),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "personality": (135, 92),
    "syslog": (103, 116),
    "acct": (163, 89),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "lookup_dcookie": (212, 18),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "vmsplice": (278, 75),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "get_mempolicy": (239, 236),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450),
    "shmget": (29, 194),
    "shmctl": (31, 195),
    "shmat": (30, 196),
    "shmdt": (67, 197),
    "semget": (64, 190),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "semop": (65, 193),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "memfd_secret": (447, 447),
    "io_setup": (206, 0),  # what it takes comes out of one account of the whole machine
}
_CLONE3 = 435
_SKIPPED = {"sync": (162, 81), "syncfs": (306, 267)}
"""Seem to succeed and do nothing: a box's files are in memory, and the disks that these would wait for are others'."""


@dataclass(frozen=True)
class _Machine:
    column: int
    audit: int
    clone: int
    socket: int
    socketpair: int
    ioctl: int
    mknod: tuple[tuple[int, int], ...]
    """Call number and which argument is the mode."""
    mmap: int
    memfd_create: int
    setrlimit: int
    prlimit64: int
    x32: bool = False


_MACHINES = {
    "x86_64": _Machine(0, 0xC000003E, 56, 41, 53, 16, ((133, 1), (259, 2)), 9, 319, 160, 302, x32=True),
    "aarch64": _Machine(1, 0xC00000B7, 220, 198, 199, 29, ((33, 2),), 222, 279, 164, 261),
}

_NEW_NAMESPACES = 0x7E020000
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing for whoever holds the terminal
_TYPE, _DEVICES = 0xF000, (0x2000, 0x6000)
_MAP_HUGETLB, _MFD_HUGETLB = 0x40000, 4  # pages that the host has set aside, which no memory limit counts
_RLIMIT_CORE = 4

# Classic BPF over struct seccomp_data: nr at 0, architecture at 4, arguments from 16, low halves first.
_LOAD, _EQUAL, _AT_LEAST, _GREATER, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_NO_FAMILY, _NO_PROTOCOL = _ERRNO | errno.EAFNOSUPPORT, _ERRNO | errno.EPROTONOSUPPORT
_DONE = _ERRNO  # 0: the call is not made, and the program told that all is well

_Line = tuple[int, int, int, int]


def supported(machine: str) -> bool:
    return machine in _MACHINES


def program(machine: str, *, loopback: bool) -> bytes:
    """The filter for an architecture as `os.uname().machine` calls it: an array of struct sock_filter."""
    this = _MACHINES[machine]
    families = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6) if loopback else (socket.AF_UNIX,)
    lines: list[_Line] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, this.audit),
        (_RETURN, 0, 0, _KILL),  # i386 on x86_64 numbers its calls otherwise
        (_LOAD, 0, 0, 0),
    ]
    if this.x32:
        lines += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]
    lines += [(_GREATER, 0, 1, LAST_KNOWN), (_RETURN, 0, 0, _ENOSYS)]
    lines += _when(_CLONE3, [(_RETURN, 0, 0, _ENOSYS)])
    for numbers in _DENIED.values():
        number = numbers[this.column]
        if number is not None:
            lines += _when(number, [(_RETURN, 0, 0, _EPERM)])
    for numbers in _SKIPPED.values():
        lines += _when(numbers[this.column], [(_RETURN, 0, 0, _DONE)])
    lines += _when(this.clone, _without(0, _NEW_NAMESPACES))
    lines += _when(this.mmap, _without(3, _MAP_HUGETLB))
    lines += _when(this.memfd_create, _without(1, _MFD_HUGETLB))
    lines += _when(this.setrlimit, _not_of_core(0))
    lines += _when(this.prlimit64, [(_LOAD, 0, 0, 32), (_EQUAL, 0, 3, 0), (_LOAD, 0, 0, 36), (_EQUAL, 0, 1, 0),
                                    (_RETURN, 0, 0, _ALLOW), *_not_of_core(1)])  # fmt: skip
    lines += _when(this.socket, [*_other_protocol(), *_one_of(families)])
    lines += _when(this.socketpair, _one_of((socket.AF_UNIX,)))
    lines += _when(this.ioctl, [(_LOAD, 0, 0, 24), *_none_of(_TERMINAL_INPUT)])
    for number, argument in this.mknod:
        mode = [(_LOAD, 0, 0, 16 + 8 * argument), (_AND, 0, 0, _TYPE)]
        lines += _when(number, [*mode, *_none_of(_DEVICES)])
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _when(number: int, lines: list[_Line]) -> list[_Line]:
    """The lines, which return, where the call number is loaded and is this one; otherwise on past them."""
    return [(_EQUAL, 0, len(lines), number), *lines]


def _without(argument: int, flags: int) -> list[_Line]:
    """Only without any of these flags."""
    load = (_LOAD, 0, 0, 16 + 8 * argument)
    return [load, (_ANY_BIT, 0, 1, flags), (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]


def _not_of_core(argument: int) -> list[_Line]:
    """Setting the limit of core dumps does nothing; see CORE_BYTES in `run`."""
    load = (_LOAD, 0, 0, 16 + 8 * argument)
    return [load, (_EQUAL, 0, 1, _RLIMIT_CORE), (_RETURN, 0, 0, _DONE), (_RETURN, 0, 0, _ALLOW)]


def _other_protocol() -> list[_Line]:
    """Returns for what is not TCP, UDP or older: the kernel would load a module for SCTP and its like."""
    return [(_LOAD, 0, 0, 32), (_GREATER, 0, 1, socket.IPPROTO_UDP), (_RETURN, 0, 0, _NO_PROTOCOL)]


def _one_of(families: tuple[int, ...]) -> list[_Line]:
    lines: list[_Line] = [(_LOAD, 0, 0, 16)]
    for family in families:
        lines += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    return [*lines, (_RETURN, 0, 0, _NO_FAMILY)]


def _none_of(values: tuple[int, ...]) -> list[_Line]:
    lines: list[_Line] = []
    for value in values:
        lines += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _EPERM)]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]
