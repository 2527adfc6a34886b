"""Messages with their length before them."""

from wire.decoder import Decoder, TooLong
from wire.encoder import encoded

__all__ = ["Decoder", "TooLong", "encoded"]
