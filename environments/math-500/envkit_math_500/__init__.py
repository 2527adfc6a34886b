"""MATH-500: 500 competition problems, answers compared by value."""

from __future__ import annotations

from envkit import Environment, Task, hf_tasks
from envkit.verify.math.reward import BOXED, BoxedEnv, JudgedEnv, correct, correct_lenient, correct_or_judged

REVISION = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"


def environment(split: str = "test", judge: bool = False) -> Environment[Task]:
    tasks = hf_tasks(
        "HuggingFaceH4/MATH-500", split, prompt="problem", answer="answer", id="unique_id", revision=REVISION
    )
    if judge:
        return JudgedEnv(tasks, rewards=[correct_or_judged], metrics=[correct_lenient], system_prompt=BOXED)
    return BoxedEnv(tasks, rewards=[correct], metrics=[correct_lenient], system_prompt=BOXED)
