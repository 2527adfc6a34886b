"""The tools of an MCP server, started for each rollout and gone with it: what it holds belongs to one episode.

envkit eval ./examples/mcp_tools.py --endpoint http://127.0.0.1:8000/v1      (pip install 'envkit[mcp]')
"""

import sys
from collections.abc import Sequence

from envkit import Environment, Message, Rollout, Task
from envkit.clients.scripted import call
from envkit.mcp import mcp_tools

SERVER = """
from mcp.server import MCPServer
server, notes = MCPServer("notes", log_level="ERROR"), []

@server.tool()
def note(text: str) -> str:
    "Write down a line; all lines so far."
    notes.append(text)
    return "\\n".join(notes)

server.run()
"""


class NotesEnv(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        async with mcp_tools([sys.executable, "-c", SERVER]) as tools:  # or the URL of one that runs
            await rollout.chat.run_tools(tools)

    def oracle(self, task: Task, messages: Sequence[Message]) -> str | Message:
        made = sum(message.role == "tool" for message in messages)
        return call("note", text=task.answer[made]) if made < len(task.answer) else messages[-1].text


def noted(rollout: Rollout[Task]) -> float:
    """1 where the last reply has every line that was to be noted, in order."""
    return float(rollout.reply.splitlines() == rollout.task.answer)


def environment() -> NotesEnv:
    prompt = "Note 'milk', then 'bread', each by a call of its own; then repeat all your notes, a line each."
    return NotesEnv([Task(id="shopping", prompt=prompt, answer=["milk", "bread"])], rewards=[noted])
