"""Four bytes, big-endian: the length of what follows."""

import struct

SIZE = 4
_LENGTH = struct.Struct(">I")


def packed(length):
    return _LENGTH.pack(length)


def unpacked(data):
    """The length; ValueError where these are not exactly the bytes of a header."""
    if len(data) != SIZE:
        raise ValueError("bad length")
    return _LENGTH.unpack(data)[0]
