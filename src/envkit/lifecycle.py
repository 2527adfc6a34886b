"""`run_rollout`, `run_group` and `score`: the only lifecycle.

None of them raises for what happens inside an episode: that is on the trace. All may be cancelled at any await.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import orjson
from pydantic import ValidationError

from envkit.clients.base import Client
from envkit.dataset import TaskT
from envkit.environment import Environment
from envkit.errors import EnvError, EnvkitError, ModelError, Truncated
from envkit.events import RolloutEnded, RolloutStarted, Scored
from envkit.limits import Deadline, Limits
from envkit.rewards import Weighted, outcome_of, read_value
from envkit.rollout import Rollout, ScoringRollout, Services, rollout_seed
from envkit.slots import Slots
from envkit.trace import ErrorRecord, Score, Timing, Trace

if TYPE_CHECKING:
    from envkit.report import RolloutRow

Models = Services | Client | Mapping[str, Client]
MAX_INFO_BYTES = 1_000_000
MAX_TRACEBACK = 20_000
"""Characters of a traceback that are kept, from its end: enough for any but a runaway recursion."""


async def run_rollout(
    env: Environment[TaskT], task: TaskT, models: Models, *, sample: int = 0, attempt: int = 0
) -> Trace:
    """One attempt at a task: run the episode, then score it. Needs no run directory.

    `models` is the policy's client, or one for each role, or `Services` for everything else that can be said.
    """
    services = Services.of(models)
    seed = rollout_seed(services.seed, task.hash, sample)
    trace = Trace.begin(task, env=env.name, sample=sample, attempt=attempt, seed=seed)
    rollout = Rollout(env, task, services, trace)
    rollout.emit(RolloutStarted(trace))
    started, clock = time.time(), time.perf_counter()
    try:
        await _episode(env, rollout)
    finally:
        if rollout.boxes is not None:
            await rollout.boxes.close()
    trace.timing = Timing(started=started, run=time.perf_counter() - clock)
    if trace.outcome != "failed":
        await score(env, trace, services)
    rollout.emit(RolloutEnded(trace))
    return trace


async def run_group(
    env: Environment[TaskT],
    task: TaskT,
    models: Models,
    samples: int | Iterable[int],
    *,
    attempt: int | Callable[[int], int] = 0,
    slots: Slots | None = None,
    finished: Callable[[Trace], None] | None = None,
    earlier: Sequence[Trace] = (),
) -> list[Trace]:
    """Several attempts at one task (`samples`: how many, or their numbers), then the group rewards over them.

    Each attempt waits for one of `slots`, if given, and is told to `finished` as soon as it is scored. `earlier`
    are finished members of the same group: they count for the group rewards and are returned, first.
    """
    wanted = range(samples) if isinstance(samples, int) else list(samples)

    async def one(sample: int) -> Trace:
        number = attempt if isinstance(attempt, int) else attempt(sample)
        try:
            trace = await run_rollout(env, task, models, sample=sample, attempt=number)
        finally:
            if slots is not None:
                slots.give()
        if finished is not None:
            finished(trace)
        return trace

    traces = [*earlier]
    if len(wanted) == 1:
        if slots is None or await slots.take():
            traces.append(await one(wanted[0]))
    else:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(i)) for i in wanted if slots is None or await slots.take()]
        traces += [attempted.result() for attempted in running]
    await score_group(env, traces, Services.of(models).limits)
    return traces


async def score(env: Environment[Any], trace: Trace, models: Models) -> Trace:
    """Score a finished rollout from its record, and from nothing else: live runs and re-scorings are the same.

    An environment without rewards leaves it unscored, and so does an episode that failed. The rewards get a rollout
    with `task`, `reply`, `messages`, `info` and the judges' roles; the policy cannot be asked there. Every reward's
    value is kept, also when another one raises. A metric that raises is None, and fails nothing.
    """
    if not (env.rewards or env.metrics or env.group_rewards):
        return trace
    _begin_scoring(trace)
    if trace.outcome == "failed":
        return trace
    services = Services.of(models)
    clock = time.perf_counter()
    rollout: ScoringRollout[Any] | None = None
    try:
        rollout = ScoringRollout(env, _own_task(env, trace), services, trace)
        failures = await _ask(env, rollout)
    except EnvkitError as error:
        failures = [error]
    finally:
        if rollout is not None and rollout.boxes is not None:
            await rollout.boxes.close()
    if failures:
        _fail(trace, failures[0])
    else:
        _total(env, trace)
    trace.timing = Timing(started=trace.timing.started, run=trace.timing.run, score=time.perf_counter() - clock)
    if services.listener is not None:
        services.listener(Scored(trace))
    return trace


async def score_group(env: Environment[Any], traces: Sequence[Trace], limits: Limits | None = None) -> None:
    """Add the group rewards to all members; below two members there are none.

    A member neither failed nor has an undecided reward of its own. `limits` are the run's, where they are not the
    environment's.
    """
    if not env.group_rewards:
        return
    members = [trace for trace in traces if is_member(env, trace)]
    if len(members) < 2:
        return
    try:
        async with phase(None, "score", (limits or env.limits).score):
            for reward in env.group_rewards:
                for trace, value in zip(members, await _compared(reward, members), strict=True):
                    trace.rewards[reward.name] = value
    except EnvkitError as error:
        for trace in members:
            _fail(trace, error)
        return
    for trace in members:
        _total(env, trace)


def is_member(env: Environment[Any], scored: Trace | RolloutRow) -> bool:
    """Whether this attempt takes part in its task's group rewards."""
    own = (scored.rewards.get(reward.name) for reward in env.rewards if reward.weight)
    return scored.outcome != "failed" and None not in own


class phase:  # noqa: N801 - read as a verb: `async with phase(...)`
    """One part of a rollout's life, with a deadline: whatever is raised inside leaves as Truncated or EnvkitError.

    Only this deadline becomes `Truncated("timeout")`, and only in `run`; an author's own TimeoutError is an EnvError.
    """

    __slots__ = ("_name", "_rollout", "_scope", "_seconds")

    def __init__(self, rollout: Rollout[Any] | None, name: str, seconds: float | None) -> None:
        self._rollout, self._name, self._seconds = rollout, name, seconds
        self._scope = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        if self._rollout is not None:
            self._rollout.deadline = Deadline(self._scope)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._rollout is not None:
            self._rollout.deadline = None
        try:
            await self._scope.__aexit__(kind, error, where)
        except TimeoutError as expired:
            error = expired
        if error is None or is_from_outside(error):
            return
        failure = self._sorted(error)
        raise failure from failure.__cause__

    def _sorted(self, error: BaseException) -> Truncated | EnvkitError:
        """The error by whose fault it is; here, once."""
        if isinstance(error, TimeoutError) and self._scope.expired():
            if self._name == "run":
                return Truncated("timeout")
            error = EnvError(f"{self._name} did not finish in {self._seconds:g} s")
        culprit = _culprit(error)
        if isinstance(culprit, Truncated) and self._name == "run":
            return culprit
        return _as_envkit_error(culprit, self._name)


async def _episode(env: Environment[TaskT], rollout: Rollout[TaskT]) -> None:
    trace, limits = rollout.trace, rollout.limits
    try:
        if not env.is_ready:
            async with phase(rollout, "setup", limits.setup):
                await env.ready()
        async with phase(rollout, "run", limits.run):
            await env.run(rollout)
    except Truncated as cut:
        trace.outcome, trace.stop = "truncated", cut.reason
    except EnvkitError as error:
        _fail(trace, error)
        trace.stop = "error"
    if not (rollout.endings or trace.info):
        return
    failures = await _finish(rollout)
    if failures and trace.error is None:
        _fail(trace, failures[0])
        trace.stop = "error"


async def _finish(rollout: Rollout[Any]) -> list[EnvkitError]:
    """Call every `at_end` callable and make `info` what its record will be; what went wrong, in this order."""
    failures: list[EnvkitError] = []
    try:
        async with phase(rollout, "finish", rollout.limits.finish):
            for function in rollout.endings:
                try:
                    rollout.held(function, (await outcome_of(function))[1])
                except BaseException as error:  # noqa: BLE001 - sorted by whose fault it is
                    failures.append(_of_environment(error, "finish"))
    except EnvkitError as error:
        failures.append(error)
    try:
        rollout.trace.info = _json_info(rollout.trace.info)
    except EnvError as error:
        rollout.trace.info = {}
        failures.append(_as_envkit_error(error, "finish"))
    return failures


async def _ask(env: Environment[Any], rollout: Rollout[Any]) -> list[EnvkitError]:
    """Ask the rewards, then the metrics; what went wrong with the rewards."""
    failures: list[EnvkitError] = []
    try:
        async with phase(rollout, "score", rollout.limits.score):
            for reward in env.rewards:
                await _apply(reward, rollout, rollout.trace.rewards, failures)
    except EnvkitError as error:
        failures.append(error)
    if env.metrics:
        await _measure(env, rollout)
    return failures


async def _apply(
    reward: Weighted, rollout: Rollout[Any], values: dict[str, float | None], failures: list[EnvkitError]
) -> None:
    """Ask one reward; what it raises joins `failures`, so that the others are asked all the same."""
    trace = rollout.trace
    try:
        raw, held = await outcome_of(reward.function, rollout)
        value, said, agents = read_value(reward.name, raw)
    except BaseException as error:  # noqa: BLE001 - sorted by whose fault it is
        failures.append(_of_environment(error, f"score: {reward.name}"))
        return
    rollout.held(reward.name, held)
    values[reward.name] = value
    if said is not None:
        trace.scores[reward.name] = said
    if reward.weight:
        for agent, part in agents.items():
            trace.agent_rewards[agent] = trace.agent_rewards.get(agent, 0.0) + reward.weight * part


async def _measure(env: Environment[Any], rollout: Rollout[Any]) -> None:
    """Ask the metrics, within the time that the rewards had. One that gives no value is None, and says why."""
    trace = rollout.trace
    try:
        async with phase(rollout, "score", rollout.limits.score):
            for metric in env.metrics:
                failures: list[EnvkitError] = []
                await _apply(metric, rollout, trace.metrics, failures)
                if failures:
                    _unmeasured(trace, metric, failures[0])
    except EnvkitError as error:
        for metric in env.metrics:
            if metric.name not in trace.metrics:
                _unmeasured(trace, metric, error)


def _unmeasured(trace: Trace, metric: Weighted, error: EnvkitError) -> None:
    where = ""
    if error.__cause__ is not None:
        frame = traceback.extract_tb(error.__cause__.__traceback__)[-1]
        where = f" ({Path(frame.filename).name}:{frame.lineno})"
    trace.metrics[metric.name] = None
    trace.scores[metric.name] = Score(value=None, reason=f"{error}{where}")


async def _compared(reward: Weighted, members: Sequence[Trace]) -> list[float | None]:
    """What a group reward says of each member."""
    try:
        values, _ = await outcome_of(reward.function, members)
        if len(values) != len(members):
            raise EnvError(f"it returned {len(values)} values for {len(members)} traces")
        return [read_value(reward.name, value)[0] for value in values]
    except BaseException as error:  # noqa: BLE001 - sorted by whose fault it is
        failure = _of_environment(error, f"score: {reward.name}")
        raise failure from failure.__cause__


def _total(env: Environment[Any], trace: Trace) -> None:
    """The policy's reward: the weighted sum, or None where a reward that counts is undecided, or none was given."""
    given = [reward for reward in (*env.rewards, *env.group_rewards) if reward.weight and reward.name in trace.rewards]
    if not given:
        return
    total = 0.0
    for reward in given:
        value = trace.rewards[reward.name]
        if value is None:
            trace.reward, trace.agent_rewards = None, {}
            return
        total += reward.weight * value
    trace.reward = total
    trace.agent_rewards["policy"] = total


def _begin_scoring(trace: Trace) -> None:
    """Forget what an earlier scoring said; a failure of the episode itself stays."""
    if trace.rewards or trace.metrics or trace.error is not None:
        trace.reward, trace.rewards, trace.agent_rewards, trace.metrics = None, {}, {}, {}
        trace.scores, trace.judging = {}, []
    if trace.error is not None and trace.error.phase.startswith("score"):
        trace.error = None
        trace.outcome = "completed" if trace.stop == "done" else "truncated"


def _own_task(env: Environment[Any], trace: Trace) -> Any:
    """The trace's task as the environment's own type, which a record read from disk does not have."""
    if isinstance(trace.task, env.task_type):
        return trace.task
    try:
        own = env.task_type.model_validate(trace.task.model_dump())
    except ValidationError as error:
        raise EnvError(f"the recorded task {trace.task_id!r} is no {env.task_type.__name__}: {error}") from error
    for message, recorded in zip(own.messages(), trace.task.messages(), strict=True):
        for image, loaded in zip(message.images, recorded.images, strict=True):
            if loaded.data is not None:
                image.load(loaded.data)
    return own


def _json_info(info: dict[str, Any]) -> dict[str, Any]:
    """`info` as it will be read again from the record."""
    if not info:
        return info
    try:
        encoded = orjson.dumps(info, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise EnvError(f"rollout.info must be JSON: {error}") from error
    if len(encoded) > MAX_INFO_BYTES:
        raise EnvError(f"rollout.info is {len(encoded):,} bytes; at most {MAX_INFO_BYTES:,} are kept")
    return orjson.loads(encoded)


def is_from_outside(error: BaseException) -> bool:
    """Whether it ends more than this rollout: Ctrl-C, or a cancellation that somebody asked this task for.

    A CancelledError that nobody asked for comes from the environment's own code, as when it awaits what it cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def _of_environment(error: BaseException, where: str) -> EnvkitError:
    """What a function of the environment raised, as ours; what came from outside goes on."""
    if is_from_outside(error):
        raise error
    return _as_envkit_error(_culprit(error), where)


def _culprit(error: BaseException) -> BaseException:
    """The exception that decides, out of a task group's: a failure before a limit, ours before anything else."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    leaves = [_culprit(leaf) for leaf in group.exceptions]
    ours = [leaf for leaf in leaves if isinstance(leaf, EnvkitError)]
    cuts = [leaf for leaf in leaves if isinstance(leaf, Truncated)]
    others = [leaf for leaf in leaves if not isinstance(leaf, Truncated)]
    return (ours or others or cuts)[0]


def _as_envkit_error(error: BaseException, where: str) -> EnvkitError:
    """The error as ours: what is not, was raised by the environment's own code."""
    if isinstance(error, EnvkitError):
        failure = error
    else:
        failure = EnvError(f"{type(error).__name__}: {error}")
        failure.__cause__ = error
    failure.phase = failure.phase or where
    return failure


def _fail(trace: Trace, error: EnvkitError) -> None:
    """Write a failure on the trace: no reward, and why."""
    cause = error.__cause__ or error
    text = "".join(traceback.format_exception(cause)) if isinstance(error, EnvError) else None
    trace.outcome, trace.reward, trace.agent_rewards = "failed", None, {}
    trace.error = ErrorRecord(
        kind=error.kind,
        type=type(cause).__name__,
        message=str(error)[:2000],
        phase=error.phase,
        retryable=error.retryable,
        status=error.status if isinstance(error, ModelError) else None,
        traceback=text[-MAX_TRACEBACK:] if text else None,
    )
