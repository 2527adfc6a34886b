"""`Canaries`: what a suite of attacks looks for on the host, and whether any of it was found.

The names are the suites': `/tmp/envkit-canary/secret` and `s.sock` beside it, TCP 47999, UDP 47998, the abstract socket
`envkit-canary`, tokens in a process's environment and arguments. A process that an attack leaves calls itself
`envkit-daemon-marker`; one that makes the host unpickle its result leaves `/tmp/envkit_pickle_pwned`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from envkit.errors import InfraError, UsageError

FOLDER = Path("/tmp/envkit-canary")
PWNED = Path("/tmp/envkit_pickle_pwned")
TCP, UDP = 47999, 47998
ABSTRACT = "\0envkit-canary"
MARKER = b"envkit-daemon-marker"
VARIABLE = "ENVKIT_CANARY"
REAPED_SECONDS = 1.0
"""For a process that was killed with its box to be gone."""


class Canaries:
    """`found` tells, once for each attack, what the host noticed of it."""

    def __init__(self) -> None:
        self.tokens = {kind: f"CANARY_{kind}_{secrets.token_hex(8)}" for kind in ("FILE", "ENV", "ARG")}
        self._reached: list[str] = []
        self._files = _files()

    def told(self, output: bytes) -> list[str]:
        """What in a program's output it can only have from the host."""
        found = [f"it read the host's {kind} token" for kind, token in self.tokens.items() if token.encode() in output]
        if (shadow := _shadow()) and shadow in output:
            found.append("it read the host's /etc/shadow")
        return found

    async def found(self) -> list[str]:
        """What the host noticed since it was last asked."""
        reached, self._reached = self._reached, []
        found = [f"it reached the host's {what}" for what in reached]
        if changed := [name for name, state in _files().items() if state != self._files[name]]:
            found.append(f"it changed {', '.join(changed)} of the host")
        if _removed(PWNED):
            found.append("it ran a command on the host by what it returned")
        if left := await _left():
            found.append(f"processes of it survived: {', '.join(map(str, left))}")
        return found

    def reached(self, what: str) -> None:
        self._reached.append(what)


@asynccontextmanager
async def canaries() -> AsyncGenerator[Canaries]:
    """Canaries, put up and taken down. UsageError where they are up already, InfraError where nobody would notice."""
    async with AsyncExitStack() as stack:
        made = Canaries()
        _put_up_file(made.tokens["FILE"])
        stack.callback(shutil.rmtree, FOLDER, ignore_errors=True)
        stack.callback(os.environ.pop, VARIABLE, None)
        os.environ[VARIABLE] = made.tokens["ENV"]
        stack.callback(stack.enter_context(_decoy(made)).kill)
        try:
            await _listen(made, stack)
        except OSError as error:
            raise UsageError(f"A canary cannot listen: {error}. Is another suite running?") from error
        await _control(made)
        yield made


def _put_up_file(token: str) -> None:
    try:
        FOLDER.mkdir(mode=0o755)
    except FileExistsError:
        raise UsageError(
            f"{FOLDER} is there already: another suite is running, or one was killed. Remove it then, and try again."
        ) from None
    (FOLDER / "secret").write_text(token)


def _decoy(made: Canaries) -> subprocess.Popen[bytes]:
    """A process with secrets in its environment, its arguments and its memory; it ends with its stdin."""
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()", made.tokens["ARG"]]
    return subprocess.Popen(waits, env={**os.environ}, stdin=subprocess.PIPE)


async def _listen(made: Canaries, stack: AsyncExitStack) -> None:
    def noted(what: str) -> type[asyncio.BaseProtocol]:
        class Noted(asyncio.DatagramProtocol, asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                if what != "UDP port":
                    made.reached(what)

            def datagram_received(self, data: bytes, addr: object) -> None:
                made.reached(what)

        return Noted

    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(noted("TCP port"), None, TCP),
        await loop.create_unix_server(noted("abstract socket"), ABSTRACT),
        await loop.create_unix_server(noted("socket file"), str(FOLDER / "s.sock")),
    ]
    for server in servers:
        stack.callback(server.close)
    (FOLDER / "s.sock").chmod(0o777)
    datagrams, _ = await loop.create_datagram_endpoint(noted("UDP port"), ("0.0.0.0", UDP))
    stack.callback(datagrams.close)


async def _control(made: Canaries) -> None:
    """The canaries notice whoever reaches them: else their silence would mean nothing."""
    _, tcp = await asyncio.open_connection("127.0.0.1", TCP)
    _, unix = await asyncio.open_unix_connection(ABSTRACT)
    datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", UDP)
    )
    datagrams.sendto(b"control")
    await asyncio.sleep(0.1)
    for writer in (tcp, unix, datagrams):
        writer.close()
    noticed = await made.found()
    if len(noticed) != 3:
        raise InfraError(f"The canaries do not notice who reaches them, but only {noticed}: nothing can be concluded.")


def _files() -> dict[str, tuple[int, int] | None]:
    """The state of files of the host that attacks try to change."""
    return {name: _state(Path(name)) for name in ("/etc/passwd", "/etc/shadow", sys.executable, os.__file__)}


def _state(file: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = file.stat()
        return found.st_size, found.st_mtime_ns
    return None


def _removed(file: Path) -> bool:
    with suppress(OSError):
        file.unlink()
        return True
    return False


def _shadow() -> bytes:
    with suppress(OSError):
        return Path("/etc/shadow").read_bytes()[:40]
    return b""


async def _left() -> list[int]:
    """Processes of the host that an attack has started."""
    for _ in range(20):
        if not _marked():
            break
        await asyncio.sleep(REAPED_SECONDS / 20)
    return _marked()


def _marked() -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(MARKER):
                found.append(int(folder.name))
    return found
