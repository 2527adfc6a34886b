"""A cache with a size and a time to live."""

from store.cache import Cache
from store.clock import Clock

__all__ = ["Cache", "Clock"]
