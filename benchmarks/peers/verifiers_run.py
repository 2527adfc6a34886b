"""What the verifiers peers share: `run_eval` with a harness in the process, no dashboard, nothing uploaded."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import aiohttp
import verifiers.v1 as vf


@cache
def session() -> aiohttp.ClientSession:
    """One for the process: verifiers makes a harness for each episode."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


def rewards(module: str, taskset: dict[str, Any], url: str, n: str, concurrency: str, out: str) -> list[float]:
    """The rewards of n episodes of the taskset and harness that `module` has."""
    from verifiers.v1.cli.eval.runner import run_eval
    from verifiers.v1.configs.cli.eval import EvalConfig

    config = EvalConfig.model_validate(
        {
            "env": {
                "taskset": {"id": module, **taskset},
                "agent": {"harness": {"id": module}, "runtime": {"type": "subprocess"}},
            },
            "model": "bench",
            "client": {"base_url": url, "api_key_var": "BENCH_KEY"},
            "select": {"limit": int(n)},
            "max_concurrent": int(concurrency),
            "rich": None,
            "push": False,
            "output_dir": out,
        }
    )

    async def run() -> list[vf.Episode]:
        try:
            return await run_eval(config)
        finally:
            await session().close()

    episodes = asyncio.run(run())
    return [trace.reward for episode in episodes for trace in episode.traces if trace.ok]
