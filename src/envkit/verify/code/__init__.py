"""Whether a program that a model wrote does what it should, judged where the program cannot reach.

    from envkit.verify.code import Call, extract, judge_calls

    program = extract(rollout.reply, must_define="add")
    verdict = await judge_calls(rollout.fresh_sandbox, program, [Call("add", [1, 2], expected=3)])

- `judge_stdio`: a program that reads stdin and prints, in Python, JavaScript, Bash, C or C++;
- `judge_calls`: functions whose results are compared, by `exact`, `as_json`, `unordered` or `within(...)`;
- `judge_asserts`: functions called by test code, as HumanEval's and MBPP's, in Python or JavaScript;
- `judge_pytest`: files over which pytest runs.

Each gets its boxes from `fresh`, takes None where `extract` found no program, and answers with a `Verdict` as
`Score.of` wants it; `nothing_to_run` is the verdict on a reply that is wrong before that. Expected values never enter a
box where the candidate's code runs, so what it prints, patches, reads or forges there is only ever a value to be
compared (less is true of `judge_pytest`: see there). What comes from a box is capped, decoded by a strict reader and
never evaluated. Where a box, an interpreter or a compiler is missing or breaks, an InfraError is raised: that is no
verdict.
"""

from __future__ import annotations

from envkit.verify.code.asserts import BrokenTests, judge_asserts
from envkit.verify.code.calls import Call, judge_calls
from envkit.verify.code.compare import Compare, as_json, exact, unordered, within
from envkit.verify.code.extract import Program, extract
from envkit.verify.code.nothing import nothing_to_run
from envkit.verify.code.repository import judge_pytest
from envkit.verify.code.stdio import StdioCase, judge_stdio
from envkit.verify.code.verdict import CaseVerdict, Fresh, Verdict

__all__ = [
    "BrokenTests",
    "Call",
    "CaseVerdict",
    "Compare",
    "Fresh",
    "Program",
    "StdioCase",
    "Verdict",
    "as_json",
    "exact",
    "extract",
    "judge_asserts",
    "judge_calls",
    "judge_pytest",
    "judge_stdio",
    "nothing_to_run",
    "unordered",
    "within",
]
