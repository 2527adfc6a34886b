"""GSM8K: grade-school word problems, graded by value or by the dataset's own rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from envkit import Environment, Message, Rollout, Score, SingleTurnEnv, Task, hf_tasks
from envkit.errors import UsageError
from envkit.rows import Row
from envkit.verify.math.reward import BOXED, BoxedEnv, correct, correct_lenient, reference

REVISION = "740312add88f781978c0658806c59bc2815b9866"
HASHES = "Solve the problem step by step. End with a line that holds only #### and the answer as a number: #### 42"

_FINAL = re.compile(r"#### (\-?[0-9\.\,]+)")  # as in openai/grade-school-math


def environment(split: str = "test", grader: Literal["boxed", "official"] = "boxed") -> Environment[Task]:
    tasks = hf_tasks("openai/gsm8k", split, config="main", prompt="question", answer=gold, revision=REVISION)
    if grader == "official":
        return HashesEnv(tasks, rewards=[official], system_prompt=HASHES)
    return BoxedEnv(tasks, rewards=[correct], metrics=[correct_lenient], system_prompt=BOXED)


class HashesEnv(SingleTurnEnv[Task]):
    def oracle(self, task: Task, messages: Sequence[Message]) -> str:
        return f"#### {task.answer}"


def official(rollout: Rollout[Any]) -> Score:
    """1 where the number after the first "#### " is the gold's very string, commas aside."""
    final = _FINAL.search(rollout.reply)
    if final is None:
        return Score(value=0.0, reason="no_hashes")
    answer, due = (number.replace(",", "") for number in (final[1], reference(rollout.task)))
    return Score(value=float(answer == due), answer=answer, span=final.span(1))


def gold(row: Row) -> str:
    """The number that a solution of the dataset ends with."""
    final = _FINAL.search(str(row["answer"]))
    if final is None:
        raise UsageError(f"{row.place}: the answer has no line '#### NUMBER'")
    return final[1].replace(",", "")
