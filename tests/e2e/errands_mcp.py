"""An MCP server over stdio whose one tool works once; the second call ends the process."""

import os

from mcp.server import MCPServer

server = MCPServer("cart", log_level="ERROR")
carried: list[int] = []


@server.tool()
def carry(parcel: int) -> str:
    """Carry one parcel."""
    carried.append(parcel)
    if len(carried) == 2:
        os._exit(7)
    return f"{len(carried)} carried"


server.run()
