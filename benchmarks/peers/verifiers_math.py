"""MATH-500 in verifiers 0.4.0, in its cheapest shape: a taskset with its own math reward, a harness that runs in the
process (one request, no program launched, which its `Harness.launch` allows), and `run_eval`, which saves each trace.

`python verifiers_math.py URL ROWS.jsonl N CONCURRENCY OUT`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import verifiers.v1 as vf
from verifiers_run import rewards, session

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
__all__ = ["MathHarness", "MathTaskset"]


class MathData(vf.TaskData):
    answer: str


class MathTask(vf.Task[MathData]):
    @vf.reward(weight=1.0)
    async def correct(self, trace: vf.Trace) -> float:
        return vf.verify_boxed_math_answer(trace.last_reply, self.data.answer)


class MathConfig(vf.TasksetConfig):
    rows: Path = Path()


class MathTaskset(vf.Taskset[MathTask, MathConfig]):
    def load(self) -> Iterable[MathTask]:
        for line in self.config.rows.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            data = MathData(
                id=row["unique_id"], prompt=row["problem"], system_prompt=SYSTEM, answer=row["answer"], name=None
            )
            yield MathTask(data, self.config.task)


class MathHarnessConfig(vf.HarnessConfig):
    pass


class MathHarness(vf.Harness[MathHarnessConfig]):
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
        system, prompt = self.resolve_prompt(data)
        body: dict[str, Any] = {
            "model": ctx.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}],
        }
        headers = {"Authorization": f"Bearer {secret}"}
        async with session().post(f"{endpoint}/chat/completions", json=body, headers=headers) as response:
            response.raise_for_status()
            await response.read()
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


def main(url: str, rows: str, n: str, concurrency: str, out: str) -> None:
    given = rewards("verifiers_math", {"rows": rows}, url, n, concurrency, out)
    print(json.dumps({"rollouts": len(given), "right": sum(given)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
