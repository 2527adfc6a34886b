"""A server of the tests: it counts, draws, fails, refuses, floods, hangs, dies. Over HTTP on a port, else stdio."""

import base64
import os
import sys
import time

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import INVALID_PARAMS, ImageContent

server = MCPServer("counter", log_level="ERROR")
count = 0
refused = 0


@server.tool()
def add(number: int, times: int = 1) -> str:
    """Add to the count, and say it."""
    global count
    count += number * times
    return str(count)


@server.tool()
def draw() -> ImageContent:
    """A picture."""
    return ImageContent(type="image", data=base64.b64encode(b"png").decode(), mime_type="image/png")


@server.tool()
def fail() -> str:
    """Go wrong."""
    raise ToolError("the abacus is broken")


@server.tool()
def flood() -> str:
    """Say far too much."""
    return "x" * 3_000_000


@server.tool()
def hang() -> str:
    """Never come back."""
    time.sleep(3600)
    return ""


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(7)


@server.tool()
def refuse() -> str:
    """Refuse a call in JSON-RPC's own way."""
    global refused
    refused += 1
    raise MCPError(INVALID_PARAMS, f"Invalid params: no such city, try {refused}")


if len(sys.argv) > 1:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    server.run()
