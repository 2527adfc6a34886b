"""A pool of connections."""

from pool.connection import Broken, Connection
from pool.pool import Empty, Pool
from pool.runner import run

__all__ = ["Broken", "Connection", "Empty", "Pool", "run"]
