"""envkit with a tool that is called again and again: what a turn costs. Each rollout is scored and saved.

`python turns.py URL N CONCURRENCY OUT`
"""

from __future__ import annotations

import asyncio
import json
import sys

from envkit import Environment, Rollout, Task, evaluate

RESULT = "The shelf holds three boxes of screws, one of them open, and a note that says when it was last counted. " * 4
"""What the tool finds: 416 characters, as in the peers."""


class ShelfEnv(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        looked: list[int] = []
        rollout.at_end(lambda: rollout.info.update(looked=len(looked)))

        def look(shelf: int) -> str:
            """What is on a shelf."""
            looked.append(shelf)
            return RESULT

        await rollout.chat.run_tools([look])


def looked(rollout: Rollout[Task]) -> float:
    return float(rollout.info["looked"])


async def main(url: str, n: str, concurrency: str, out: str) -> None:
    tasks = [Task(id=str(i), prompt=f"Look at every shelf of room {i}.") for i in range(int(n))]
    env = ShelfEnv(tasks, rewards=[looked])
    report = await evaluate(env, url, concurrency=int(concurrency), out=out)
    print(json.dumps({"rollouts": report.scored, "calls": report.mean}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
