"""What a trainer does: groups of rollouts with token ids, rewarded as a group too, and the samples to train on.

python examples/in_a_trainer.py http://127.0.0.1:8000/v1 MODEL
envkit eval ./examples/in_a_trainer.py --endpoint http://127.0.0.1:8000/v1 -n 10 -k 4
"""

import asyncio
import sys
from collections.abc import Sequence
from random import Random

from envkit import Dataset, Endpoint, Rollout, Services, SingleTurnEnv, Task, Trace, run_group, weighted
from envkit.clients.http import HTTPClient


def make(index: int, rng: Random) -> Task:
    """One of endless tasks."""
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    return Task(id=f"product-{index}", prompt=f"What is {a} * {b}?", answer=a * b)


def correct(rollout: Rollout) -> float:
    return float(rollout.reply.strip().endswith(str(rollout.task.answer)))


def shortest(traces: Sequence[Trace]) -> list[float]:
    """A bonus for the shortest right answer of all attempts at one task."""
    lengths = [len(trace.replies()[-1].text) if trace.reward else float("inf") for trace in traces]
    return [float(length == min(lengths) < float("inf")) for length in lengths]


def environment() -> SingleTurnEnv:
    return SingleTurnEnv(Dataset.generate(make, seed=1), rewards=[correct], group_rewards=[weighted(shortest, 0.1)])


async def main(url: str, model: str) -> None:
    env = environment()
    client = HTTPClient(Endpoint(url=url, model=model))
    services = Services({"policy": client}, sampling={"temperature": 1.0}, seed=0, tokens=True)
    for task in env.tasks.take(2):
        for trace in await run_group(env, task, services, 8):
            for sample in trace.samples(max_len=4096):
                print(task.id, trace.reward, sum(sample.mask), "tokens to train on")
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
