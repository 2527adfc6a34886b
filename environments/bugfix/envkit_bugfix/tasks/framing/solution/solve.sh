#!/bin/sh
set -e
cat >/app/wire/decoder.py <<'END'
"""Messages out of the pieces that a network gives."""

from wire.header import SIZE, unpacked


class TooLong(Exception):
    """A message is longer than allowed; nothing after it can be read."""


class Decoder:
    def __init__(self, most=1 << 20):
        self.most = most
        self._buffer = b""
        self._refused = False

    def feed(self, data):
        """The messages that are whole with this piece, in order."""
        if self._refused:
            raise TooLong("an earlier message was too long")
        self._buffer += data
        messages = []
        while len(self._buffer) >= SIZE:
            length = unpacked(self._buffer[:SIZE])
            if length > self.most:
                self._refused = True
                raise TooLong(f"{length} bytes")
            if len(self._buffer) < SIZE + length:
                break
            messages.append(self._buffer[SIZE : SIZE + length])
            self._buffer = self._buffer[SIZE + length :]
        return messages

    @property
    def waiting(self):
        """Bytes of a message that is not whole yet."""
        return len(self._buffer)
END
