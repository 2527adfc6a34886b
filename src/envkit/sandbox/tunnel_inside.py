"""The end of a tunnel that is in the box: `envkit.sandbox.tunnel` has `python3 -c` run this text there.

Both ends send frames, a header and at most `CHUNK` bytes. Who opens a connection gives it a number that is never used
again. Each direction of each connection carries at most `WINDOW` bytes beyond those that credit was given for, so that
a slow reader holds nobody else up and fills no memory. After END both ways, or CLOSE from either, it is gone.

One thread, which never waits for a single reader or writer; the standard library of Python 3.7.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import sys

FRAME = struct.Struct(">BIH")
"""What kind of frame, of which connection, and how many bytes follow."""
READY, FAILED, OPEN, DATA, END, CLOSE, CREDIT = range(7)
PORT, COUNT = struct.Struct(">H"), struct.Struct(">I")
"""What follows READY and OPEN, and CREDIT. FAILED has words, DATA what is carried, END and CLOSE nothing."""

CHUNK = 1 << 15
WINDOW = 1 << 18
MOST = 128
"""Connections at once; others wait until they are accepted."""

_UNSAID = 1 << 18
"""Bytes for the host beyond which no connection is read."""


class _Connection:
    def __init__(self, end: _End, number: int, stream: socket.socket) -> None:
        self.end, self.number, self.stream = end, number, stream
        self.unsent = bytearray()
        self.credit, self.taken = WINDOW, 0
        self.connecting = self.heard_end = self.said_end = self.shut = False
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wanted(self) -> int:
        readable = self.credit and not self.said_end and not self.connecting and len(self.end.unsaid) < _UNSAID
        writable = self.connecting or self.unsent or (self.heard_end and not self.shut)
        return (selectors.EVENT_READ if readable else 0) | (selectors.EVENT_WRITE if writable else 0)

    def turn(self, events: int) -> None:
        if self.number not in self.end.connections:
            return  # closed since these events were seen
        try:
            if events & selectors.EVENT_WRITE:
                self._write()
            if events & selectors.EVENT_READ:
                self._read()
        except BlockingIOError:
            pass
        except OSError:
            self.end.say(CLOSE, self.number)
            self.end.forget(self)

    def _write(self) -> None:
        if self.connecting:
            self.connecting = False
            number = self.stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))
        if self.unsent:
            sent = self.stream.send(self.unsent)
            del self.unsent[:sent]
            self.taken += sent
            if self.taken >= WINDOW // 2:
                self.end.say(CREDIT, self.number, COUNT.pack(self.taken))
                self.taken = 0
        if self.heard_end and not self.unsent and not self.shut:
            self.stream.shutdown(socket.SHUT_WR)
            self.shut = True
            self.check()

    def _read(self) -> None:
        data = self.stream.recv(min(CHUNK, self.credit))
        if data:
            self.credit -= len(data)
            self.end.say(DATA, self.number, data)
        else:
            self.said_end = True
            self.end.say(END, self.number)
            self.check()

    def check(self) -> None:
        if self.said_end and self.shut:
            self.end.forget(self)


class _End:
    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, _Connection] = {}
        self.unsaid = bytearray()
        self._heard = bytearray()
        self._listener: socket.socket | None = None
        self._numbers = 0
        for fd in (0, 1):
            os.set_blocking(fd, False)

    def listen(self, port: int) -> int:
        """Open a connection to the host for each one to this port (0: any that is free), which is returned."""
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(MOST)
        self._listener.setblocking(False)
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        while True:
            self._want(0, selectors.EVENT_READ, self._hear)
            self._want(1, selectors.EVENT_WRITE if self.unsaid else 0, self._speak)
            if self._listener is not None:
                more = len(self.connections) < MOST
                self._want(self._listener, selectors.EVENT_READ if more else 0, self._accept)
            for connection in list(self.connections.values()):
                self._want(connection.stream, connection.wanted(), connection.turn)
            for key, events in self.selector.select():
                key.data(events)

    def say(self, kind: int, number: int = 0, body: bytes = b"") -> None:
        self.unsaid += FRAME.pack(kind, number, len(body)) + body

    def forget(self, connection: _Connection) -> None:
        self._want(connection.stream, 0, None)
        del self.connections[connection.number]
        connection.stream.close()

    def _want(self, file: socket.socket | int, events: int, told: object) -> None:
        key = self.selector.get_map().get(file)
        if key is not None and not events:
            self.selector.unregister(file)
        elif key is not None and key.events != events:
            self.selector.modify(file, events, told)
        elif key is None and events:
            self.selector.register(file, events, told)

    def _hear(self, _: int) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            sys.exit()  # the host has closed the tunnel
        self._heard += data
        start = 0
        while len(self._heard) - start >= FRAME.size:
            kind, number, length = FRAME.unpack_from(self._heard, start)
            body = start + FRAME.size
            if len(self._heard) < body + length:
                break
            start = body + length
            self._take(kind, number, bytes(self._heard[body:start]))
        del self._heard[:start]

    def _take(self, kind: int, number: int, body: bytes) -> None:
        if kind == OPEN:
            self._connect(number, *PORT.unpack(body))
            return
        connection = self.connections.get(number)
        if connection is None:
            return  # it was closed here while this was on its way
        if kind == DATA:
            connection.unsent += body
        elif kind == END:
            connection.heard_end = True
        elif kind == CREDIT:
            connection.credit += COUNT.unpack(body)[0]
        elif kind == CLOSE and connection.heard_end:
            connection.said_end = True  # it goes once the last of it is written
            connection.check()
        elif kind == CLOSE:
            reset = struct.pack("ii", 1, 0)
            connection.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            self.forget(connection)

    def _connect(self, number: int, port: int) -> None:
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection = self.connections[number] = _Connection(self, number, stream)
        if stream.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS):
            connection.connecting = True
        else:
            self.say(CLOSE, number)
            self.forget(connection)

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return  # it has hung up already
        self._numbers += 1
        self.connections[self._numbers] = _Connection(self, self._numbers, stream)
        self.say(OPEN, self._numbers, PORT.pack(0))

    def _speak(self, _: int) -> None:
        try:
            del self.unsaid[: os.write(1, self.unsaid)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            sys.exit()


def main() -> None:
    """`listen PORT`, or `connect`, to whatever port the host says."""
    end = _End()
    try:
        end.say(READY, 0, PORT.pack(end.listen(int(sys.argv[2])) if sys.argv[1] == "listen" else 0))
    except (OSError, OverflowError) as error:
        end.say(FAILED, 0, str(error).encode()[:1000])
    end.run()


if __name__ == "__main__":
    main()
