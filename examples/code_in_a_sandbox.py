"""A model writes a function, which runs in a sandbox and is judged from outside: it cannot reach what it is held to.

envkit eval ./code_in_a_sandbox.py --endpoint http://localhost:8000/v1
"""

from __future__ import annotations

from collections.abc import Sequence

from envkit import Message, Rollout, Score, SingleTurnEnv, Task
from envkit.sandbox import ExecLimits, SandboxSpec
from envkit.verify.code import Call, extract, judge_calls

ASK = "Write a Python function `{name}` that {does}. Answer with one fenced block."
FUNCTIONS = {
    "total": ("returns the sum of a list of integers", "return sum(xs)", [([1, 2, 3], 6), ([], 0)]),
    "largest": ("returns the largest of a list of integers", "return max(xs)", [([1, 9, 3], 9), ([-4], -4)]),
}


class Functions(SingleTurnEnv[Task]):
    def oracle(self, task: Task, messages: Sequence[Message]) -> str:
        return f"```python\ndef {task.id}(xs):\n    {FUNCTIONS[task.id][1]}\n```"


async def passes(rollout: Rollout[Task]) -> Score:
    """1 where the function returns what it should for every input; a sandbox that breaks is a failure, never a 0."""
    name = rollout.task.id
    calls = [Call(name, [given], expected=due) for given, due in rollout.task.answer]
    return Score.of(await judge_calls(rollout.fresh_sandbox, extract(rollout.reply, must_define=name), calls))


def environment() -> Functions:
    tasks = [
        Task(id=name, prompt=ASK.format(name=name, does=does), answer=cases)
        for name, (does, _, cases) in FUNCTIONS.items()
    ]
    return Functions(tasks, rewards=[passes], sandbox=SandboxSpec(limits=ExecLimits(wall=5)))
