"""In which order packages are built."""

from order.errors import Cycle, Missing
from order.graph import parse
from order.sort import order

__all__ = ["Cycle", "Missing", "order", "parse"]
