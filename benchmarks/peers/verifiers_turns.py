"""A tool that is called again and again in verifiers 0.4.0, in its cheapest shape: a harness that runs in the process
and keeps the conversation itself, with no program launched and no MCP server; `run_eval` saves each trace.

`python verifiers_turns.py URL N CONCURRENCY OUT`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import verifiers.v1 as vf
from verifiers_run import rewards, session

RESULT = "The shelf holds three boxes of screws, one of them open, and a note that says when it was last counted. " * 4
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "What is on a shelf.",
        "parameters": {
            "type": "object",
            "properties": {"shelf": {"type": "integer"}},
            "required": ["shelf"],
            "additionalProperties": False,
        },
    },
}
__all__ = ["ShelfHarness", "ShelfTaskset"]


class ShelfTask(vf.Task[vf.TaskData]):
    @vf.reward(weight=1.0)
    async def looked(self, trace: vf.Trace) -> float:
        return float(trace.info["looked"])


class ShelfConfig(vf.TasksetConfig):
    count: int = 0


class ShelfTaskset(vf.Taskset[ShelfTask, ShelfConfig]):
    def load(self) -> Iterable[ShelfTask]:
        for i in range(self.config.count):
            data = vf.TaskData(id=str(i), prompt=f"Look at every shelf of room {i}.", name=None)
            yield ShelfTask(data, self.config.task)


class ShelfHarnessConfig(vf.HarnessConfig):
    pass


class ShelfHarness(vf.Harness[ShelfHarnessConfig]):
    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        messages: list[dict[str, Any]] = [{"role": "user", "content": data.prompt}]
        headers = {"Authorization": f"Bearer {secret}"}
        looked = 0
        while True:
            body = {"model": ctx.model, "messages": messages, "tools": [LOOK]}
            async with session().post(f"{endpoint}/chat/completions", json=body, headers=headers) as response:
                response.raise_for_status()
                message = (await response.json())["choices"][0]["message"]
            messages.append({k: message[k] for k in ("role", "content", "tool_calls") if message.get(k) is not None})
            if not message.get("tool_calls"):
                break
            for call in message["tool_calls"]:
                json.loads(call["function"]["arguments"])
                looked += 1
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": RESULT})
        trace.info["looked"] = looked
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


def main(url: str, n: str, concurrency: str, out: str) -> None:
    given = rewards("verifiers_turns", {"count": int(n)}, url, n, concurrency, out)
    print(json.dumps({"rollouts": len(given), "calls": sum(given) / max(1, len(given))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
