"""`check`: what an environment must keep before its numbers can be trusted. Needs no model.

Scripted replies (the oracle's, none, junk) are run through the environment as a model's would be, and their scores
are held against what env.toml promises. Each gate says one sentence that names the tasks it is about.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from envkit.chat import HELD_TOO_LONG
from envkit.clients.base import Client
from envkit.clients.scripted import Oracle, Scripted
from envkit.environment import Environment
from envkit.errors import EnvError, UsageError
from envkit.events import Event, Listener, LoopHeld
from envkit.lifecycle import run_rollout, score, score_group
from envkit.load import DuplicateId
from envkit.packages.find import Package, find
from envkit.packages.hacks import disguised, hacked
from envkit.rewards import Weighted, outcome_of
from envkit.rollout import POLICY, Services
from envkit.sandbox.pool import Boxes, opened
from envkit.task import RecordedTask, Task
from envkit.trace import Trace
from envkit.types import Message, ToolCall

ORACLE = "oracle"
HUGE = 1_000_000
"""Characters of the huge reply: more than any model writes."""
MEASURED = 3
"""Times that a reward which held the loop is asked once more."""
TELLING = 20
"""Characters from which an answer that stands in its prompt gives itself away; shorter ones stand there by chance."""


@dataclass(frozen=True)
class Gate:
    """One demand, and whether the environment keeps it. A warning is for a person to look at."""

    name: str
    status: Literal["passed", "warning", "failed"]
    detail: str


@dataclass
class Bench:
    """What the gates look at: the environment, its first tasks, and the traces of each scripted reply to them."""

    package: Package
    env: Environment[Any]
    tasks: list[Task]
    args: Mapping[str, Any]
    data: str | None
    boxes: Boxes
    sandbox: str | None
    twin: str | None = None
    """What was said of the first task that has the id of another, after which none could be read."""
    traces: dict[str, list[Trace]] = field(default_factory=dict[str, list[Trace]])
    held: dict[str, list[tuple[float, Trace]]] = field(default_factory=dict[str, list[tuple[float, Trace]]])
    compared: list[Trace] = field(default_factory=list[Trace])
    """Copies of the attempts at each task, with their group rewards."""

    @property
    def scored(self) -> list[Trace]:
        """All traces that did not fail."""
        return [trace for traces in self.traces.values() for trace in traces if trace.outcome != "failed"]

    def heard(self, event: Event) -> None:
        if isinstance(event, LoopHeld):
            self.held.setdefault(event.function, []).append((event.seconds, event.trace))


async def check(
    package: Package,
    *,
    args: Mapping[str, Any] | None = None,
    data: str | None = None,
    n: int = 50,
    sandbox: str | None = None,
) -> list[Gate]:
    """All gates, over the first n tasks: of `data`, else of the sample that ships with the package, else of its own.

    `sandbox` names the backend for its boxes. UsageError where the environment cannot be loaded, or its tasks or
    boxes cannot be had.
    """
    args = args or {}
    own = package.load(**args)
    if data is None and package.sample.is_file():
        data = "sample"
    env = package.load(data, **args)
    tasks, twin = _drawn(env, n)
    if not tasks:
        raise UsageError(f"{package.name} has no tasks to check.")
    if env.roles and type(env).stand_in is Environment.stand_in:  # pyright: ignore[reportUnknownMemberType]
        raise UsageError(
            f"{package.name} needs models for {', '.join(env.roles)}: override Environment.stand_in, which says what "
            "they say when there are none, so that it can be checked."
        )
    async with opened(sandbox, env.sandbox) as pool:
        bench = Bench(package, env, tasks, args, data, pool.boxes, sandbox, twin)
        try:
            await _run_scripts(bench)
            again = await _round_trip(bench)
            await _compare_attempts(bench)
            gates = [_pins(package, own), *(gate(bench) for gate in GATES)]
            return [*gates, await _loop(bench), again, await _two_processes(bench)]
        finally:
            await _end(env)


def _drawn(env: Environment[Any], n: int) -> tuple[list[Task], str | None]:
    """(the first n tasks, or those before the first that has the id of another; what was said of that one)."""
    tasks: list[Task] = []
    try:
        tasks.extend(islice(env.tasks, n))
    except DuplicateId as error:
        return tasks, str(error)
    return tasks, None


async def _end(env: Environment[Any]) -> None:
    try:
        await env.end()
    except Exception as error:
        raise EnvError(f"close() of {env.name} raised {type(error).__name__}: {error}") from error


# --- the scripted replies ----------------------------------------------------------------------------------------

Says = Callable[[Task, Sequence[Message]], str | Message]


def _junk() -> dict[str, Says]:
    """Replies that answer nothing, whatever was asked."""
    broken = Message.assistant("", (ToolCall(id="call_0", name="no_such_tool", arguments='{"query": "unclosed'),))
    texts = {
        "empty": "",
        "constant": "Yes.",
        "refusal": "I'm sorry, but I can't help with that.",
        "huge": "so " * (HUGE // 3),
        "unclosed": "<think> {{[[((\\boxed{\\frac{1}{",
    }
    replies: dict[str, Says] = {name: lambda _task, _messages, text=text: text for name, text in texts.items()}
    return {**replies, "malformed tool call": lambda _task, _messages: broken, "echo": _echo}


def _echo(task: Task, messages: Sequence[Message]) -> str:
    return next((m.text for m in reversed(messages) if m.role == "user"), "")


async def _run_scripts(bench: Bench) -> None:
    """The oracle's reply to each task, then every reply that must earn nothing."""
    env = bench.env
    first = await _run(bench, ORACLE, bench.tasks, env.oracle)
    for name, says in _junk().items():
        await _run(bench, name, bench.tasks, says)
    said = {trace.task_id: trace.turns[0].reply.text for trace in first if len(trace.turns) == 1}
    others = {task.id: [t for t in bench.tasks if t.id in said and _differ(t, task)] for task in bench.tasks}
    mixed = [task for task in bench.tasks if task.id in said and len(others[task.id]) > 1]

    def other(task: Task, messages: Sequence[Message]) -> str:
        return disguised(said[others[task.id][0].id], said[task.id])

    def every(task: Task, messages: Sequence[Message]) -> str:
        before, after = others[task.id][0], others[task.id][-1]
        right = said[task.id]
        return "\nor\n".join([disguised(said[before.id], right), right, disguised(said[after.id], right)])

    await _run(bench, "another task's answer", mixed, other)
    await _run(bench, "every option at once", mixed, every)
    for name, replies in _hacks(bench, said).items():
        await _run(bench, name, [t for t in bench.tasks if t.id in replies], _says(replies))


def _hacks(bench: Bench, said: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By the name of a hack, its reply to each task, made of what the oracle said to it."""
    replies: dict[str, dict[str, str]] = {}
    for task in bench.tasks:
        if task.id in said:
            right = said[task.id]
            for name, text in {**hacked(right), **bench.env.hacks(task, right)}.items():
                replies.setdefault(name, {})[task.id] = text
    return replies


def _says(replies: Mapping[str, str]) -> Says:
    return lambda task, _messages: replies[task.id]


def _differ(a: Task, b: Task) -> bool:
    """Whether two answers are surely not one: 5 may be right where x=5 is."""
    first, second = str(a.answer), str(b.answer)
    return first not in second and second not in first


async def _run(bench: Bench, name: str, tasks: Sequence[Task], says: Says) -> list[Trace]:
    bench.traces[name] = [await _one(bench, task, says) for task in tasks]
    return bench.traces[name]


async def _one(bench: Bench, task: Task, says: Says) -> Trace:
    model = Scripted(lambda messages: says(task, messages))
    models = {POLICY: model, **_stand_ins(bench.env)}
    return await run_rollout(bench.env, task, Services(models, listener=bench.heard, boxes=bench.boxes))


async def _compare_attempts(bench: Bench) -> None:
    """The group rewards over all replies to each task: on copies, for no reply by itself is paid for by them."""
    env = bench.env
    own, env.group_rewards = env.group_rewards, [_watched(reward, bench) for reward in env.group_rewards]
    try:
        for task in bench.tasks if own else ():
            attempts = [trace.model_copy(deep=True) for trace in bench.scored if trace.task_id == task.id]
            await score_group(env, attempts)
            bench.compared += attempts
    finally:
        env.group_rewards = own


def _watched(reward: Weighted, bench: Bench) -> Weighted:
    """The group reward, which tells the bench where it holds the loop."""

    async def watched(traces: Sequence[Trace]) -> Sequence[float]:
        values, held = await outcome_of(reward.function, traces)
        if held > HELD_TOO_LONG:
            bench.heard(LoopHeld(traces[0], reward.name, held))
        return values

    return replace(reward, function=watched)


def _stand_ins(env: Environment[Any]) -> dict[str, Client]:
    """Who speaks for the roles beside the policy."""
    return {role: Oracle(env, role) for role in env.roles}


# --- the gates ---------------------------------------------------------------------------------------------------


def _pins(package: Package, env: Environment[Any]) -> Gate:
    """Is the dataset that is loaded the one, and at the revision, that env.toml names?"""
    about, pins = env.tasks.about, {pin.id: pin for pin in package.manifest.datasets}
    name = "datasets are pinned"
    if "revision" not in about:
        return Gate(name, "passed", "The tasks come from no hub dataset.")
    pin = pins.get(about["id"])
    if pin is None:
        return Gate(name, "failed", f"The code loads {about['id']}, which env.toml does not name under [[datasets]].")
    if (pin.config, pin.revision) != (about["config"], about["revision"]):
        return Gate(name, "failed", f"The code loads {about['id']} at another revision or config than env.toml names.")
    if pin.revision is None:
        return Gate(name, "warning", f"{pin.id} is not pinned to a revision: its rows may change.")
    return Gate(name, "passed", f"{pin.id} at {pin.revision[:12]}.")


def _ids(bench: Bench) -> Gate:
    if bench.twin is not None:
        return Gate("ids are unique", "failed", f"{bench.twin}; the other gates looked at what comes before it.")
    ids = [task.id for task in bench.tasks]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    return _gate("ids are unique", twice, f"{len(ids)} tasks, each with its own id.", "have an id that another has")


def _prompts(bench: Bench) -> Gate:
    """What the model is sent: it must be there, and be text or parts that the wire can carry."""
    blank = [t.task_id for t in bench.traces["empty"] if not t.turns or not any(map(_speaks, t.turns[0].prompt))]
    return _gate("prompts render", blank, "Every task opens with a prompt.", "send the model no prompt")


def _speaks(message: Message) -> bool:
    return message.role != "system" and bool(message.to_wire()["content"])


def _duplicates(bench: Bench) -> Gate:
    seen: dict[Any, str] = {}
    twice = [task.id for task in bench.tasks if task.prompt and seen.setdefault(task.prompt, task.id) != task.id]
    return _gate("prompts differ", twice, "No prompt comes twice.", "have the prompt of another task", "warning")


def _golds(bench: Bench) -> Gate:
    unread = [t.task_id for t in bench.traces[ORACLE] if t.outcome != "failed" and t.reward is None]
    return _gate("golds can be read", unread, "Every gold can be read.", "have a gold that no reward can read")


def _oracle(bench: Bench) -> Gate:
    name, floor = "the oracle scores its maximum", bench.package.manifest.floors.oracle
    if any(map(_has_no_oracle, bench.traces[ORACLE])):
        return Gate(name, "warning", "The environment has no oracle; override Environment.oracle.")
    short = [t.task_id for t in bench.traces[ORACLE] if t.reward is not None and t.reward < floor]
    return _gate(name, short, f"It gets {floor:g} on every task.", f"give the oracle less than {floor:g}")


def _has_no_oracle(trace: Trace) -> bool:
    return trace.error is not None and trace.error.kind == "usage"


def _junk_floor(bench: Bench) -> Gate:
    """A reply that is left undecided, where the oracle's was not, is not counted: that is more than the floor, too."""
    floor = bench.package.manifest.floors.junk
    readable = {trace.task_id for trace in bench.traces[ORACLE] if trace.reward is not None}
    paid: list[str] = []
    for name, traces in bench.traces.items():
        for trace in traces if name != ORACLE else ():
            undecided = trace.reward is None and trace.outcome != "failed" and trace.task_id in readable
            if undecided or (trace.reward is not None and trace.reward > floor):
                paid.append(f"{trace.task_id} ({name}: {'undecided' if undecided else f'{trace.reward:g}'})")
    kinds = ", ".join(name for name in bench.traces if name != ORACLE)
    fine = f"No reply without the answer gets more than {floor:g} ({kinds})."
    says = f"pay more than {floor:g} for one, or leave it undecided"
    return _gate("replies without an answer score the floor", paid, fine, says)


def _unbroken(bench: Bench) -> Gate:
    broken = [
        f"{trace.task_id} ({name}: {trace.error.phase}: {trace.error.message[:120]})"
        for name, traces in [*bench.traces.items(), ("all replies", bench.compared)]
        for trace in traces
        if trace.error is not None and not _has_no_oracle(trace)
    ]
    return _gate("no reply breaks the environment", broken, "None made its code raise.", "failed")


def _not_given_away(bench: Bench) -> Gate:
    """A short answer may stand in its prompt by chance (most numbers do); the oracle's whole reply, with the mark
    that makes it an answer, or a long answer may not."""
    told: list[str] = []
    for trace in bench.traces[ORACLE]:
        prompt = "\n".join(message.text for message in trace.task.messages())
        answer, reply = str(trace.task.answer), trace.turns[0].reply.text if trace.turns else ""
        marked = reply and reply != answer and reply in prompt
        if marked or (isinstance(trace.task.answer, str) and len(answer) >= TELLING and answer in prompt):
            told.append(trace.task_id)
    return _gate(
        "the answer is not in the prompt", told, "No prompt gives its answer away.", "have it there", "warning"
    )


GATES = (_ids, _prompts, _duplicates, _golds, _oracle, _junk_floor, _unbroken, _not_given_away)


# --- the loop ----------------------------------------------------------------------------------------------------


async def _loop(bench: Bench) -> Gate:
    """Only what holds it again and again: a first call imports, and a busy machine makes anything slow at times."""
    slow: list[str] = []
    for name, times in sorted(bench.held.items()):
        seconds = await _at_best(bench, name, times) if len(times) > 1 else 0.0
        if seconds > HELD_TOO_LONG:
            slow.append(f"{name} ({seconds * 1000:.0f} ms)")
    says = "held the event loop: envkit.blocking(...) moves what takes long to a thread"
    return _gate("nothing holds the loop", slow, "No function held it for long.", says, "warning")


async def _at_best(bench: Bench, name: str, times: Sequence[tuple[float, Trace]]) -> float:
    """Seconds for which the function holds the loop; a reward's are measured anew where they were the longest."""
    longest, trace = max(times, key=lambda time: time[0])
    if name not in {reward.name for reward in (*bench.env.rewards, *bench.env.metrics)}:
        return longest
    return min([longest, *[await _held_again(bench, name, trace) for _ in range(MEASURED)]])


async def _held_again(bench: Bench, name: str, trace: Trace) -> float:
    held = [0.0]

    def heard(event: Event) -> None:
        if isinstance(event, LoopHeld) and event.function == name:
            held.append(event.seconds)

    await _scored_again(bench.env, trace.to_json(), trace.task.model_dump(mode="json"), bench.boxes, heard)
    return max(held)


# --- scored again ------------------------------------------------------------------------------------------------


async def _round_trip(bench: Bench) -> Gate:
    """Is what was scored live scored the same from its record?"""
    changed: list[str] = []
    for trace in bench.scored:
        task = trace.task.model_dump(mode="json")
        again = await _scored_again(bench.env, trace.to_json(), task, bench.boxes, bench.heard)
        if _said(again) != _said(trace):
            changed.append(f"{trace.task_id} ({trace.reward} then {again.reward})")
    fine = f"{len(bench.scored)} records score as they did live."
    return _gate("a record scores as it did live", changed, fine, "score otherwise when read back from JSON")


async def _two_processes(bench: Bench) -> Gate:
    """Does a second interpreter, with another hash seed, say the same?"""
    name = "two processes agree"
    traces = bench.scored
    where = str(bench.package.root) if bench.package.origin == "path" else bench.package.name
    if bench.package.origin == "path" and bench.package.source.is_file():
        where = str(bench.package.source)
    work = {
        "package": where,
        "args": bench.args,
        "sandbox": bench.sandbox,
        "records": [[t.to_json().decode(), t.task.model_dump(mode="json")] for t in traces],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from envkit.packages.check import second_process; second_process()",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )  # fmt: skip
    out, complaint = await process.communicate(json.dumps(work).encode())
    if process.returncode:
        return Gate(name, "failed", f"The second one failed: {complaint.decode().strip().splitlines()[-1]}")
    said = json.loads(out.splitlines()[-1])
    changed = [trace.task_id for trace, other in zip(traces, said, strict=True) if _said(trace) != other]
    return _gate(name, changed, f"A second one gave the same {len(said)} scores.", "score otherwise in a second one")


def second_process() -> None:
    """Score the records on stdin, as `_two_processes` wrote them; their scores go to stdout as one line of JSON."""
    answer, sys.stdout = sys.stdout, sys.stderr  # what the environment prints is no part of it
    work = json.load(sys.stdin)
    env = find(work["package"]).load(**work["args"])

    async def scores() -> list[dict[str, Any]]:
        await env.ready()
        async with opened(work["sandbox"], None) as pool:
            records = [(record.encode(), task) for record, task in work["records"]]
            return [_said(await _scored_again(env, record, task, pool.boxes)) for record, task in records]

    print(json.dumps(asyncio.run(scores())), file=answer)


async def _scored_again(
    env: Environment[Any], record: bytes, task: Mapping[str, Any], boxes: Boxes, listener: Listener | None = None
) -> Trace:
    trace = Trace.from_json(record).with_task(RecordedTask.model_validate(task))
    return await score(env, trace, Services(_stand_ins(env), boxes=boxes, listener=listener))


def _said(trace: Trace) -> dict[str, Any]:
    """Everything that scoring says, as JSON gives it back."""
    return json.loads(trace.model_dump_json(include={"reward", "rewards", "agent_rewards", "metrics", "scores"}))


def _gate(
    name: str, wrong: Sequence[str], fine: str, says: str, status: Literal["warning", "failed"] = "failed"
) -> Gate:
    if not wrong:
        return Gate(name, "passed", fine)
    shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return Gate(name, status, f"{len(wrong)} {says}: {shown}.")
