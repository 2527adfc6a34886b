"""A served model that is a perfect agent of retail-desk: it says what the environment's oracle would, over HTTP.

`python desk_server.py N REQUESTS` prints its port, then serves until it is killed. It knows a conversation by its
beginning; N tasks of the family `several` with REQUESTS errands each are known.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

from envkit.packages.find import find
from envkit.types import Message

LATENCY = 0.02


Asked = tuple[tuple[str, ...], int]
"""What the customer has said, and how often the agent has spoken: that tells what it says next."""


def scripts(n: int, requests: int) -> dict[Asked, dict[str, Any]]:
    """The agent's next message, by what was said before."""
    env = find("retail-desk").load(families=("several",), n=n, requests=requests)
    known: dict[Asked, dict[str, Any]] = {}
    for task in env.tasks:
        heard, said = [Message.user("Hello?")], list[Message]()
        customer = (str(env.stand_in("user", task, heard)),)
        while True:
            reply = env.oracle(task, [Message.user("?"), *said])
            if known.setdefault((customer, len(said)), reply.to_wire())["content"] != reply.to_wire()["content"]:
                raise SystemExit(f"two customers cannot be told apart: {customer[-1]!r}")
            if said and reply.content == said[-1].content and not reply.tool_calls:
                break
            said.append(reply)
            if not reply.tool_calls:
                heard.append(Message.user(reply.content))
                customer = (*customer, str(env.stand_in("user", task, heard)))
    return known


async def serve(n: int, requests: int) -> None:
    known = scripts(n, requests)

    async def complete(request: web.Request) -> web.Response:
        messages = json.loads(await request.read())["messages"]
        heard = tuple(message["content"] for message in messages if message["role"] == "user")
        made = sum(message["role"] == "assistant" for message in messages)
        message = known[heard, made]
        await asyncio.sleep(LATENCY)
        size = sum(len(str(message.get("content") or "")) for message in messages) // 4
        choice = {
            "index": 0,
            "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
            "message": message,
        }
        usage = {"prompt_tokens": size, "completion_tokens": 20, "total_tokens": size + 20}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "model": "desk", "choices": [choice], "usage": usage}
        )

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "desk", "object": "model"}]})

    app = web.Application(client_max_size=1 << 26)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
