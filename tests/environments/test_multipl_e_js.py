"""MultiPL-E in JavaScript: the score that was published for real replies, and the form in which replies are read."""

import json
from pathlib import Path

import pytest
from environments.replays import flips, recorded, replayed, scored
from material import material

from envkit.packages.check import check
from envkit.packages.find import find
from envkit.sandbox import SandboxSpec
from envkit.sandbox.slot.backend import SlotBackend

REPLAY = "multipl_e_js__qwen2.5-coder-7b-base.jsonl"
BODY = "    return String(n).split('').reverse().map(Number);\n}\n"


@pytest.fixture(autouse=True)
async def _node(isolated: None) -> None:
    backend = SlotBackend()
    async with await backend.start(SandboxSpec()) as box:
        result = await box.exec(["node", "--version"])
    await backend.close()
    if not result.ok:
        pytest.skip("the sandbox has no node: install nodejs")


@pytest.mark.parametrize("prompt", ["chat", "base"])
async def test_every_gate_is_passed(prompt: str) -> None:
    gates = await check(find("multipl-e-js"), args={"prompt": prompt}, n=6)
    assert [gate for gate in gates if gate.status != "passed"] == []


async def test_replies_get_their_published_scores(tmp_path: Path) -> None:
    """Also the one whose tests are no JavaScript: it is 0 in every published score."""
    rows = map(json.loads, material(f"replay/{REPLAY}").read_text().splitlines())
    data = tmp_path / "humaneval-js.jsonl"
    tests = [(row, row["meta"]["program"].removeprefix(row["response"])) for row in rows]
    stops = ["\nfunction ", "\n/*", "\n//", "\nconsole.log"]
    lines = [{"name": r["task_id"], "prompt": r["prompt"], "tests": t, "stop_tokens": stops} for r, t in tests]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    traces = await replayed("multipl-e-js", REPLAY, str(data), prompt="base")
    assert flips(traces, recorded(REPLAY)) == {}
    assert (len(traces), sum(trace.reward or 0.0 for trace in traces.values())) == (161, 97)


@pytest.mark.parametrize(
    ("reply", "value"),
    [(BODY, 1.0), (BODY + "\nconsole.log(undefinedName);", 1.0), ("    return [];\n}\n", 0.0), ("", 0.0)],
)
async def test_a_continuation_is_cut_at_the_stops(reply: str, value: float) -> None:
    assert (await scored("multipl-e-js", "sample_digitsReversed", reply, prompt="base")).value == value


async def test_a_chat_reply_is_its_code_block() -> None:
    code = "```js\nconst digitsReversed = n => [...String(n)].reverse().map(Number);\n```"
    score = await scored("multipl-e-js", "sample_digitsReversed", f"Here:\n{code}")
    assert score.value == 1.0
    assert score.interpreter is not None
    assert score.interpreter.startswith("node v")


async def test_a_score_without_a_program_names_what_would_have_run_it() -> None:
    score = await scored("multipl-e-js", "sample_digitsReversed", "no code")
    assert (score.value, score.reason) == (0.0, "no_code")
    assert (score.interpreter or "").startswith("node v")
    assert score.judge is not None


async def test_leaving_early_is_not_passing() -> None:
    code = "```js\nfunction digitsReversed(n) { process.exit(0); }\n```"
    assert (await scored("multipl-e-js", "sample_digitsReversed", code)).value == 0.0
