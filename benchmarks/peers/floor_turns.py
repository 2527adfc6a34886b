"""The least that an episode of tool calls can cost: `aiohttp`, `json`, a list of messages, and nothing kept.

`python floor_turns.py URL N CONCURRENCY`
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp

RESULT = "The shelf holds three boxes of screws, one of them open, and a note that says when it was last counted. " * 4
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "What is on a shelf.",
        "parameters": {"type": "object", "properties": {"shelf": {"type": "integer"}}, "required": ["shelf"]},
    },
}


async def episode(session: aiohttp.ClientSession, url: str, number: int) -> int:
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"Look at every shelf of room {number}."}]
    looked = 0
    while True:
        body = {"model": "bench", "messages": messages, "tools": [LOOK]}
        async with session.post(f"{url}/chat/completions", json=body) as response:
            message = (await response.json())["choices"][0]["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            return looked
        for call in message["tool_calls"]:
            json.loads(call["function"]["arguments"])
            looked += 1
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": RESULT})


async def main(url: str, n: str, concurrency: str) -> None:
    free = asyncio.Semaphore(int(concurrency))

    async def one(session: aiohttp.ClientSession, number: int) -> int:
        async with free:
            return await episode(session, url, number)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        looked = await asyncio.gather(*[one(session, i) for i in range(int(n))])
    print(json.dumps({"rollouts": len(looked), "calls": sum(looked) / len(looked)}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
