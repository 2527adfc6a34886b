"""Messages as bytes."""

from wire.header import packed


def encoded(message):
    return packed(len(message)) + message
