"""The gates, each shown an environment that does not keep it."""

from pathlib import Path

import pytest
from packages.projects import ECHOES, project

from envkit.errors import UsageError
from envkit.packages.check import Gate, check
from envkit.packages.find import find


async def gates(path: Path, **options: object) -> dict[str, Gate]:
    return {gate.name: gate for gate in await check(find(str(path)), **options)}  # type: ignore[arg-type]


async def failing(path: Path) -> dict[str, str]:
    """What each gate says that is not passed."""
    return {name: gate.detail for name, gate in (await gates(path)).items() if gate.status != "passed"}


def code(reward: str = "float(rollout.reply == rollout.task.answer)", **parts: str) -> str:
    head, then = parts.get("head", ""), parts.get("then", "rewards=[reward]")
    tasks = parts.get("tasks", '[Task(id=f"w{n}", prompt=f"Word {n}?", answer=f"word-{n}") for n in range(4)]')
    return (
        f"import os, time\nfrom envkit import SingleTurnEnv, Task, Score\n{head}\n"
        f"def reward(rollout):\n    return {reward}\n"
        f"def environment(): return {parts.get('kind', 'SingleTurnEnv')}({tasks}, {then})\n"
    )


COMPARES = """
async def slow(traces):
    time.sleep(0.06)
    return [0.0] * len(traces)

def short(traces):
    return [0.0]
"""
TIDIES = """
class Tidies(SingleTurnEnv):
    async def run(self, rollout):
        async def tidy(): time.sleep(0.06)
        rollout.at_end(tidy)
        await rollout.chat.generate()
"""


async def test_a_sound_environment_passes_every_gate(tmp_path: Path) -> None:
    found = await gates(project(tmp_path, code=ECHOES), args={"words": 4})
    assert {name: gate.status for name, gate in found.items()} == dict.fromkeys(found, "passed")
    assert list(found) == [
        "datasets are pinned", "ids are unique", "prompts render", "prompts differ", "golds can be read",
        "the oracle scores its maximum", "replies without an answer score the floor",
        "no reply breaks the environment", "the answer is not in the prompt", "nothing holds the loop",
        "a record scores as it did live", "two processes agree",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "gate", "said"),
    [
        (
            code(tasks='[Task(id=str(n // 2), prompt=str(n), answer=f"a{n}") for n in range(4)]'),
            "ids are unique",
            "2 have an id that another has: 0, 1.",
        ),
        (
            code(tasks='[Task(id=str(n), prompt="" if n else "x?", answer=f"a{n}") for n in range(3)]'),
            "prompts render",
            "2 send the model no prompt: 1, 2.",
        ),
        (
            code(tasks='[Task(id=str(n), prompt="Say it.", answer=f"a{n}") for n in range(3)]'),
            "prompts differ",
            "2 have the prompt of another task: 1, 2.",
        ),
        (
            code("None if rollout.task.id == 'w1' else float(rollout.reply == rollout.task.answer)"),
            "golds can be read",
            "1 have a gold that no reward can read: w1.",
        ),
        (
            code("0.5 * (rollout.reply == rollout.task.answer)"),
            "the oracle scores its maximum",
            "4 give the oracle less than 1: w0, w1, w2 and 1 more.",
        ),
        (
            code("float(rollout.task.answer in rollout.reply)"),
            "replies without an answer score the floor",
            "(every option at once: 1)",
        ),
        (
            code("None if rollout.reply == 'Yes.' else float(rollout.reply == rollout.task.answer)"),
            "replies without an answer score the floor",
            "4 pay more than 0 for one, or leave it undecided: w0 (constant: undecided)",
        ),
        (
            code("1.0 if rollout.reply else 0.0"),
            "replies without an answer score the floor",
            "(constant: 1)",
        ),
        (
            code("float(rollout.reply.split()[0] == rollout.task.answer)"),
            "no reply breaks the environment",
            "(empty: score: reward: IndexError: list index out of range)",
        ),
        (
            code(tasks='[Task(id="a", prompt="Is it the quick brown fox?", answer="the quick brown fox")]').replace(
                "the quick brown fox", "the quick brown fox that jumps"
            ),
            "the answer is not in the prompt",
            "1 have it there: a.",
        ),
        (
            code("time.sleep(0.06) or float(rollout.reply == rollout.task.answer)"),
            "nothing holds the loop",
            "reward (",
        ),
        (
            code("(time.sleep(0.06), float(rollout.reply == rollout.task.answer))[1]").replace(
                "def rew", "async def rew"
            ),
            "nothing holds the loop",
            "reward (",
        ),
        (
            code(head=COMPARES, then="rewards=[reward], group_rewards=[slow]"),
            "nothing holds the loop",
            "slow (",
        ),
        (
            code(head=COMPARES, then="rewards=[reward], group_rewards=[short]"),
            "no reply breaks the environment",
            "(all replies: score: short: it returned 1 values for ",
        ),
        (
            code(head=TIDIES, kind="Tidies"),
            "nothing holds the loop",
            "Tidies.run.<locals>.tidy (",
        ),
        (
            code(
                "(calls.append(1), len(calls))[1] if rollout.reply == rollout.task.answer else 0.0", head="calls = []"
            ),
            "a record scores as it did live",
            "4 score otherwise when read back from JSON: w0 (1.0 then ",
        ),
        (
            code("float(rollout.reply == rollout.task.answer) + (hash('a') % 99991) / 1e7"),
            "two processes agree",
            "score otherwise in a second one: w0",
        ),
    ],
)
async def test_each_gate_fails_for_its_own_fault(tmp_path: Path, wrong: str, gate: str, said: str) -> None:
    found = await failing(project(tmp_path, code=wrong))
    assert said in found[gate]


async def test_group_rewards_pay_for_no_reply_by_itself(tmp_path: Path) -> None:
    first = "def first(traces): return [1.0] * len(traces)"
    found = await gates(project(tmp_path, code=code(head=first, then="rewards=[reward], group_rewards=[first]")))
    assert {name: gate.status for name, gate in found.items() if gate.status != "passed"} == {}


async def test_a_function_that_held_the_loop_once_is_no_habit(tmp_path: Path) -> None:
    once = code(
        "(time.sleep(0.06 * (not calls)), calls.append(1), float(rollout.reply == rollout.task.answer))[2]",
        head="calls = []",
    )
    assert "nothing holds the loop" not in await failing(project(tmp_path, code=once))


async def test_ids_that_come_twice_in_the_rows_are_the_ids_gates(tmp_path: Path) -> None:
    loads = (
        "from envkit import SingleTurnEnv, hf_tasks\n"
        "def reward(rollout): return float(rollout.reply == rollout.task.answer)\n"
        "def environment():\n"
        "    return SingleTurnEnv(hf_tasks('a/b', 'test', prompt='q', answer='a', id='i'), rewards=[reward])\n"
    )
    folder = project(tmp_path, code=loads)
    rows = ['{"i": "%s", "q": "%s?", "a": "word-%s"}' % (i, q, q) for i, q in (("a", 1), ("b", 2), ("a", 3))]  # noqa: UP031
    (folder / "envkit_echoes" / "sample.jsonl").write_text("\n".join(rows) + "\n")
    gate = (await gates(folder))["ids are unique"]
    assert (gate.status, "sample.jsonl:3: the id 'a' is that of " in gate.detail) == ("failed", True)


async def test_a_startup_that_raises_is_a_gates_and_close_is_not_called(tmp_path: Path) -> None:
    starts = """
class Starts(SingleTurnEnv):
    async def startup(self): raise OSError("no such cellar")
    async def close(self): self.cellar.lock()
"""
    found = await failing(project(tmp_path, code=code(head=starts, kind="Starts")))
    assert "setup: OSError: no such cellar" in found["no reply breaks the environment"]


async def test_an_environment_without_an_oracle_is_warned_about(tmp_path: Path) -> None:
    bare = (
        "from envkit import Environment, Task\n"
        "class Ask(Environment):\n    async def run(self, rollout): await rollout.chat.generate()\n"
        "def right(rollout): return float(rollout.reply == 'yes')\n"
        "def environment(): return Ask([Task(id='1', prompt='Is it?')], rewards=[right])\n"
    )
    found = await gates(project(tmp_path, code=bare))
    assert found["the oracle scores its maximum"].status == "warning"
    assert "override Environment.oracle" in found["the oracle scores its maximum"].detail
    assert {gate.status for gate in found.values()} == {"passed", "warning"}


async def test_floors_come_from_env_toml(tmp_path: Path) -> None:
    half = code("0.5 if rollout.reply == rollout.task.answer else 0.1")
    found = await failing(project(tmp_path, code=half, toml="floors = { oracle = 0.5, junk = 0.1 }"))
    assert found == {}


async def test_a_dataset_must_be_the_one_that_env_toml_names(tmp_path: Path) -> None:
    loads = (
        "from envkit import SingleTurnEnv, hf_tasks\n"
        "def reward(rollout): return float(rollout.reply == rollout.task.answer)\n"
        "def environment():\n"
        "    tasks = hf_tasks('nobody/sums', 'test', prompt='q', answer='a', revision='abc')\n"
        "    return SingleTurnEnv(tasks, rewards=[reward])\n"
    )
    for n, (toml, status) in enumerate(
        [("", "failed"), ("revision = 'abd'", "failed"), ("revision = 'abc'", "passed")]
    ):
        folder = project(tmp_path / str(n), code=loads, toml=f"[[datasets]]\nid = 'nobody/sums'\n{toml}" if n else "")
        rows = '{"q": "One?", "a": "one"}\n{"q": "Two?", "a": "two"}\n'
        (folder / "envkit_echoes" / "sample.jsonl").write_text(rows)
        found = await gates(folder)
        assert found["datasets are pinned"].status == status


async def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="echoes has no tasks to check"):
        await gates(project(tmp_path / "a", code=code(tasks="[]")))
    judged = "from envkit import SingleTurnEnv, Task\nclass E(SingleTurnEnv): roles = ('judge',)\n"
    judged += "def environment(): return E([Task(id='1', prompt='?')])"
    with pytest.raises(UsageError, match="echoes needs models for judge"):
        await gates(project(tmp_path / "b", code=judged))


async def test_roles_are_played_by_the_environments_own_stand_ins(tmp_path: Path) -> None:
    judged = """
from envkit import Judge, SingleTurnEnv, Task
class E(SingleTurnEnv):
    roles = ("judge",)
    def stand_in(self, role, task, messages):
        return str(float(messages[-1].text == task.answer))
def environment():
    tasks = [Task(id=w, prompt=f"Say {w} in capitals.", answer=w.upper()) for w in ("one", "two", "six")]
    return E(tasks, rewards=[Judge("{reply}", float)])
"""
    found = await gates(project(tmp_path, code=judged))
    assert {name: gate.status for name, gate in found.items() if gate.status != "passed"} == {}
