"""Messages out of the pieces that a network gives."""

from wire.header import SIZE, unpacked


class TooLong(Exception):
    """A message is longer than allowed; nothing after it can be read."""


class Decoder:
    def __init__(self, most=1 << 20):
        self.most = most
        self._buffer = b""

    def feed(self, data):
        """The messages that are whole with this piece, in order."""
        self._buffer = data
        messages = []
        while self._buffer:
            length = unpacked(self._buffer[:SIZE])
            if length > self.most:
                raise TooLong(f"{length} bytes")
            messages.append(self._buffer[SIZE : SIZE + length])
            self._buffer = self._buffer[SIZE + length :]
        return messages

    @property
    def waiting(self):
        """Bytes of a message that is not whole yet."""
        return len(self._buffer)
