from __future__ import annotations

import os
import struct
import textwrap

import pytest
from sandbox.slots import box

from envkit.sandbox.slot import seccomp

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS, NO_FAMILY = ERRNO | 1, ERRNO | 38, ERRNO | 97
DONE = ERRNO
X86, ARM, I386 = 0xC000003E, 0xC00000B7, 0x40000003


def decide(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would: an interpreter for the few instructions of such a program."""
    data = struct.pack("iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    lines = list(struct.iter_unpack("HBBI", program))
    at = value = 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("I", data, operand)
            case 0x54:
                value &= operand
            case 0x06:
                return operand
            case 0x15 | 0x25 | 0x35 | 0x45:
                tests = {0x15: value == operand, 0x25: value > operand, 0x35: value >= operand, 0x45: value & operand}
                at += yes if tests[code] else no
            case _:
                raise AssertionError(hex(code))


@pytest.mark.parametrize(
    ("number", "arguments", "verdict"),
    [
        (0, (), ALLOW),  # read
        (59, (), ALLOW),  # execve
        (101, (), EPERM),  # ptrace
        (165, (), EPERM),  # mount
        (272, (), EPERM),  # unshare
        (425, (), EPERM),  # io_uring_setup
        (435, (), ENOSYS),  # clone3
        (463, (), ENOSYS),  # newer than the list
        (0x3FFFFFFF, (), ENOSYS),
        (0x40000000, (), KILL),  # x32
        (-1, (), KILL),
        (56, (0x1200011,), ALLOW),  # clone, as fork does it
        (56, (0x3D0F00,), ALLOW),  # clone, as a thread is made
        (56, (0x10000011,), EPERM),  # CLONE_NEWUSER
        (56, (0x00020000,), EPERM),  # CLONE_NEWNS
        (41, (1,), ALLOW),  # AF_UNIX
        (41, (2,), NO_FAMILY),
        (41, (40,), NO_FAMILY),  # AF_VSOCK
        (41, (0x1_0000_0001,), ALLOW),  # the kernel too looks at 32 bits
        (53, (2,), NO_FAMILY),
        (16, (0, 0x5401), ALLOW),
        (16, (0, 0x5412), EPERM),  # TIOCSTI
        (16, (0, 0xFF_0000_5412), EPERM),
        (133, (0, 0o010644), ALLOW),  # a fifo
        (133, (0, 0o020644), EPERM),  # a character device
        (259, (0, 0, 0o060644), EPERM),  # a block device
        (206, (), EPERM),  # io_setup
        (162, (), DONE),  # sync
        (306, (), DONE),  # syncfs
        (9, (0, 4096, 3, 0x22), ALLOW),  # mmap
        (9, (0, 1 << 21, 3, 0x40022), EPERM),  # of huge pages
        (319, (0, 1), ALLOW),  # memfd_create
        (319, (0, 4), EPERM),  # of huge pages
        (160, (7, 1), ALLOW),  # setrlimit, of files
        (160, (4, 1), DONE),  # of core dumps
        (302, (0, 4, 0, 1), ALLOW),  # prlimit64, which looks
        (302, (0, 4, 1 << 40, 0), DONE),  # and which sets
        (302, (0, 7, 1 << 40, 0), ALLOW),
    ],
)
def test_verdicts_on_x86_64(number: int, arguments: tuple[int, ...], verdict: int) -> None:
    assert decide(seccomp.program("x86_64", loopback=False), X86, number, *arguments) == verdict


@pytest.mark.parametrize(
    ("number", "arguments", "verdict"),
    [
        (63, (), ALLOW),  # read
        (117, (), EPERM),  # ptrace
        (40, (), EPERM),  # mount
        (435, (), ENOSYS),
        (220, (17,), ALLOW),
        (220, (0x10000000,), EPERM),
        (198, (1,), ALLOW),
        (198, (10,), NO_FAMILY),
        (33, (0, 0, 0o020644), EPERM),
        (0, (), EPERM),  # io_setup
        (222, (0, 1 << 21, 3, 0x40022), EPERM),
        (261, (0, 4, 1 << 12, 0), DONE),
    ],
)
def test_verdicts_on_aarch64(number: int, arguments: tuple[int, ...], verdict: int) -> None:
    assert decide(seccomp.program("aarch64", loopback=False), ARM, number, *arguments) == verdict


def test_another_architectures_calls_are_fatal() -> None:
    assert decide(seccomp.program("x86_64", loopback=False), I386, 1) == KILL
    assert decide(seccomp.program("aarch64", loopback=False), X86, 1) == KILL


def test_loopback_adds_the_internet_families_alone() -> None:
    program = seccomp.program("x86_64", loopback=True)
    verdicts = {family: decide(program, X86, 41, family) for family in range(50)}
    assert [family for family, verdict in verdicts.items() if verdict == ALLOW] == [1, 2, 10]
    assert decide(program, X86, 53, 2) == NO_FAMILY
    protocols = [number for number in range(300) if decide(program, X86, 41, 2, 1, number) == ALLOW]
    assert protocols == list(range(18))  # TCP is 6, UDP 17; SCTP, DCCP, MPTCP come after


async def test_the_kernel_takes_the_filter_and_holds_to_it() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are x86_64's")
    source = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        for number in (101, 165, 272, 308, 321, 425, 435, 447, 463):
            print(libc.syscall(number, 0, 0, 0, 0, 0) == -1 and os.strerror(ctypes.get_errno()))
        if os.fork() == 0:
            libc.syscall(0x40000000 + 39)
        print(os.wait()[1] & 127)
        os.mkfifo('fifo')
    """
    async with box() as opened:
        result = await opened.python(textwrap.dedent(source))
        no, missing = "Operation not permitted", "Function not implemented"
        assert result.stdout.decode().splitlines() == [no] * 6 + [missing, no, missing, "31"]
        assert result.ok


async def test_no_crash_of_a_program_starts_what_the_host_has_for_core_dumps() -> None:
    source = """
        import os, resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        print(resource.getrlimit(resource.RLIMIT_CORE))
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        print(resource.getrlimit(resource.RLIMIT_NOFILE))
        print(*(resource.getrlimit(each)[1] for each in (resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE)))
        os.sync()
    """
    async with box() as opened:
        for result in (
            await opened.python(textwrap.dedent(source)),
            await opened.exec(["python3", "-c", textwrap.dedent(source)]),
        ):
            assert result.stdout == b"(1, 1)\n(64, 64)\n0 0\n", result.stderr
