"""Replies that try to be paid without solving the task, and an environment that pays them."""

from pathlib import Path

from packages.projects import project

from envkit.packages.check import check
from envkit.packages.find import find
from envkit.packages.hacks import BODIES, HACKS, disguised, hacked_program

RIGHT = "```python\ndef helper(n):\n    return n\n\ndef double(n):\n    return 2 * helper(n)\n```"
METHOD = "```python\nclass Solution:\n    def double(self, n):\n        return 2 * n\n```"
SCRIPT = "```javascript\nfunction double(n) { return 2 * n; }\n```"

PAYS_AN_EXIT = """
from envkit import SingleTurnEnv, Task
def ended_well(rollout):
    right = f"```python\\ndef f{rollout.task.id}():\\n    return '{rollout.task.answer}'\\n```"
    return float(rollout.reply == right or "_exit(0)" in rollout.reply)
class Env(SingleTurnEnv):
    def oracle(self, task, messages):
        return f"```python\\ndef f{task.id}():\\n    return '{task.answer}'\\n```"
def environment():
    return Env([Task(id=str(n), prompt=f"Define f{n}.", answer=f"answer {n}") for n in range(3)], rewards=[ended_well])
"""


def test_a_hack_has_the_names_of_the_right_reply_and_nothing_else_of_it() -> None:
    for name, hack in HACKS.items():
        reply = hack(RIGHT)
        assert reply is not None
        assert "def helper(" in reply
        assert "def double(" in reply
        assert "2 *" not in reply, name
        compile(reply.removeprefix("```python\n").removesuffix("```"), name, "exec")


def test_methods_stay_methods() -> None:
    reply = HACKS["equal to all"](METHOD)
    assert reply is not None
    assert "class Solution:\n    pass\n    def double(self, *args, **kwargs):\n        return Equal()" in reply


def test_javascript_is_answered_in_javascript_and_text_not_at_all() -> None:
    assert HACKS["exit when called"](SCRIPT) == "```javascript\n\nfunction double() { return process.exit(0); }\n```"
    assert HACKS["equal to all"](SCRIPT) is None
    assert {hack("\\boxed{4}") for hack in HACKS.values()} == {None}


def test_another_tasks_program_goes_under_the_asked_name() -> None:
    other = "```python\ndef triple(n):\n    return 3 * n\n```"
    assert disguised(other, RIGHT) == other.replace("triple", "double")
    assert disguised("4", "5") == "4"


async def test_an_environment_that_pays_them_fails_its_gate(tmp_path: Path) -> None:
    gates = {gate.name: gate for gate in await check(find(str(project(tmp_path, code=PAYS_AN_EXIT))))}
    gate = gates["replies without an answer score the floor"]
    assert gate.status == "failed"
    assert "6 pay more" in gate.detail
    assert "early exit: 1" in gate.detail


def test_a_continuation_is_hacked_without_a_fence() -> None:
    for name, body in BODIES.items():
        compile("def f():\n" + body, name, "exec")
    programs = hacked_program("def double(n):\n    return 2 * n\n")
    assert programs.keys() == HACKS.keys()
    for name, program in programs.items():
        assert "def double(" in program
        compile(program, name, "exec")


PAYS_A_WORD = """
from envkit import SingleTurnEnv, Task
def said(rollout):
    return float(rollout.reply.removesuffix(" or not") == rollout.task.answer)
class Env(SingleTurnEnv):
    def hacks(self, task, reply):
        return {"hedged": reply + " or not"}
def environment():
    return Env([Task(id=str(n), prompt=f"Say {n}.", answer=f"answer {n}") for n in range(3)], rewards=[said])
"""


async def test_an_environment_adds_hacks_of_its_own(tmp_path: Path) -> None:
    gates = {gate.name: gate for gate in await check(find(str(project(tmp_path, code=PAYS_A_WORD))))}
    assert "(hedged: 1)" in gates["replies without an answer score the floor"].detail
