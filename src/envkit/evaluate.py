"""`evaluate`: many rollouts. Draws tasks lazily, keeps a bounded number of rollouts live, saves each as it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import subprocess
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import orjson

import envkit
from envkit.clients.base import Client
from envkit.clients.endpoint import Endpoint, bind
from envkit.dataset import Dataset
from envkit.environment import Environment
from envkit.errors import EnvError, EnvkitError, UsageError
from envkit.events import Listener
from envkit.lifecycle import is_from_outside, run_group
from envkit.limits import Limits
from envkit.log import logged
from envkit.progress import Budget, Progress
from envkit.report import Report
from envkit.rollout import POLICY, Services
from envkit.runs import Manifest, RunWriter
from envkit.slots import Slots
from envkit.task import Task

if TYPE_CHECKING:
    from envkit.sandbox.base import Backend
    from envkit.sandbox.pool import Boxes, Opened

Model = str | Endpoint | Client

AT_ONCE, AHEAD = 64, 0.002
"""Tasks that are made in one go, and the seconds that it may take: one by itself, between two rollouts, costs three
times as much, since nothing that it needs is in the processor's caches any more."""
SELDOM = (50_000, 20, 100)
"""Thresholds of the garbage collector while a run goes on: it then holds a few megabytes more."""
GRACE = 10.0
"""Seconds that live rollouts get after an interrupt before they are cancelled."""


@dataclass(frozen=True)
class Selection:
    """Which tasks, and how often each: the first `limit` of those named by `ids`, shuffled by seed; `k` samples."""

    k: int = 1
    limit: int | None = None
    ids: tuple[str, ...] | None = None
    shuffle: int | None = None

    def tasks(self, dataset: Dataset[Any]) -> Iterator[Task]:
        """The selected tasks; UsageError for an id that is met twice or was asked for and is not there, or for none."""
        if dataset.endless and self.limit is None:
            raise UsageError("This dataset is endless: say how many tasks to take with -n/--limit.")
        chosen = _drawn(dataset if self.shuffle is None else dataset.shuffle(self.shuffle))
        wanted = None if self.ids is None else set(self.ids)
        if wanted is not None:
            chosen = (task for task in chosen if task.id in wanted)
        seen: set[str] = set()
        for task in islice(chosen, self.limit):
            if task.id in seen:
                raise UsageError(f"The dataset has two tasks with the id {task.id!r}; ids must be unique.")
            seen.add(task.id)
            yield task
        if wanted is not None and self.limit is None and (missing := sorted(wanted - seen)):
            raise UsageError(f"The dataset has no task {missing[0]!r} ({len(missing)} of the ids were not found).")
        if not seen:
            raise UsageError("The dataset has no tasks to run.")


def _drawn(dataset: Dataset[Any]) -> Iterator[Task]:
    """The tasks; what the dataset's own code raises is an EnvError."""
    try:
        yield from dataset
    except EnvkitError:
        raise
    except BaseException as error:
        if is_from_outside(error):
            raise
        raise EnvError(f"the dataset raised {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Resume:
    """How to go on with a run: which kinds of failure to try again beside the model's and the infrastructure's, and
    whether changed inputs are accepted (and recorded with each rollout) or refused."""

    retry: tuple[str, ...] = ()
    accept_changes: bool = False

    @property
    def again(self) -> frozenset[str]:
        """The kinds of failure to try again; what an environment has not got (`usage`) is the environment's."""
        return frozenset({"model", "infra", *self.retry, *(("usage",) if "env" in self.retry else ())})


async def evaluate(
    env: Environment[Any],
    models: Model | Mapping[str, Model],
    *,
    k: int = 1,
    limit: int | None = None,
    ids: Iterable[str] | None = None,
    shuffle: int | None = None,
    concurrency: int = 32,
    out: str | Path | Callable[[Manifest], Path] | None = None,
    resume: Resume | None = None,
    sampling: Mapping[str, Any] | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    tokens: bool = False,
    sandbox: Boxes | Backend | str | None = None,
    budget: Budget | None = None,
    listener: Listener | None = None,
    provenance: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    started: Callable[[Progress], None] | None = None,
) -> Report:
    """Run `k` rollouts of each task, at most `concurrency` at a time, and report.

    `models` is the policy's URL, alias, `Endpoint` or `Client`, or one for each role. Clients made here are closed
    here; passed ones belong to the caller. `out` is the run directory: a new one (or a function that names it, given
    the run's manifest), or with `resume` the one to go on with; without it only the report remains. `sandbox` is where
    boxes come from: a backend's name, or a backend or a pool, which the caller closes; by default the first that works
    here. `provenance` joins the run's recorded inputs, `options` is kept beside them. `started` is given the
    `Progress`, through which a run can be watched and stopped.

    UsageError for what cannot begin, ModelError where the endpoint does not answer; a rollout's failure is in the
    report, never raised.
    """
    selection = Selection(k, limit, None if ids is None else tuple(ids), shuffle)
    from envkit.sandbox.pool import opened

    async with opened(sandbox, env.sandbox) as pool, bound(models, env) as clients:
        services = Services(clients, limits, sampling or {}, seed, tokens, listener, pool.boxes)
        if out is not None:
            next(_drawn(env.tasks), None)  # what is recorded of a dataset of the hub is known once it is read
        inputs = _inputs(env, services, selection, provenance or {}, pool)
        manifest = Manifest.begin(
            env.name or type(env).__name__, clients[POLICY].name,
            inputs=inputs, group_rewards=[reward.name for reward in env.group_rewards],
            options=dict(options or {}), versions={} if out is None else _versions(),
        )  # fmt: skip
        path = out(manifest) if callable(out) else out
        directory, changes = _directory(manifest, path, resume)
        progress = Progress(env, Slots(concurrency), budget or Budget(), directory, changes)
        if started is not None:
            started(progress)
        try:
            with _collecting_less(), logged(progress, listener) as listening:
                services = replace(services, listener=listening)
                return await _run(services, selection, progress, concurrency, (resume or Resume()).again)
        finally:
            if directory is not None:
                directory.close()


@contextmanager
def _collecting_less() -> Generator[None]:
    """The garbage collector looks seldom inside, if it looks at all: a finished rollout leaves no cycles, and at 2,048
    live ones the default spends a fifth of the CPU on finding none."""
    before = gc.get_threshold()
    if 0 < before[0] < SELDOM[0]:
        gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        if gc.get_threshold() == SELDOM:
            gc.set_threshold(*before)


async def _run(
    services: Services, selection: Selection, progress: Progress, concurrency: int, retry: frozenset[str]
) -> Report:
    complete = False
    try:
        complete = await _all_groups(services, selection, progress, concurrency, retry)
    finally:
        report = Report.of(
            [*progress.superseded, *progress.done.values()],
            env=progress.env.name or type(progress.env).__name__,
            model=services.models[POLICY].name,
            run=str(progress.directory.path) if progress.directory else None,
            k=selection.k,
            stopped=progress.why,
            group_rewards=[reward.name for reward in progress.env.group_rewards],
        )
        if progress.directory is not None:
            with suppress(OSError):  # a full disk has stopped the run already, and all of this can be made again
                progress.directory.save(status="finished" if complete else progress.stopped or "interrupted")
                progress.directory.save_results(report.model_dump_json(indent=2).encode())
        await _end(progress.env)
    if progress.problem is not None:
        raise progress.problem
    return report


async def _end(env: Environment[Any]) -> None:
    try:
        await env.end()
    except BaseException as error:
        if is_from_outside(error):
            raise
        raise EnvError(f"close() of {env.name or type(env).__name__} raised {type(error).__name__}: {error}") from error


async def _all_groups(
    services: Services, selection: Selection, progress: Progress, concurrency: int, retry: frozenset[str]
) -> bool:
    """Run every group to its end; False where the run was stopped before it."""
    tasks = _a_few_at_once(selection.tasks(progress.env.tasks), progress)

    async def worker() -> None:
        while (task := _next(tasks, progress)) is not None:
            samples = progress.missing(task, selection.k, retry)
            if samples or progress.lacks_group_rewards(task, selection.k):
                await _group(services, task, samples, selection.k, progress)

    workers = [asyncio.ensure_future(worker()) for _ in range(concurrency)]
    working = asyncio.gather(*workers)
    closed = asyncio.ensure_future(progress.slots.closed.wait())
    try:
        await asyncio.wait({working, closed}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await asyncio.wait({working}, timeout=GRACE if progress.stopped == "interrupted" else None)
        if working.done():
            working.result()
    finally:
        for task in (closed, *workers):  # each: a gathering that failed does not wait for the others
            task.cancel()
        await asyncio.gather(working, *workers, return_exceptions=True)
    return progress.stopped is None


def _a_few_at_once(tasks: Iterator[Task], progress: Progress) -> Iterator[Task]:
    """The tasks, made `AT_ONCE` ahead of their need, or as many as `AHEAD` seconds allow."""
    made: list[Task] = []
    while True:
        until = perf_counter() + AHEAD
        try:
            for task in islice(tasks, AT_ONCE):
                progress.expect(task)
                made.append(task)
                if perf_counter() > until:
                    break
        finally:  # what was made before one that cannot be
            yield from made
        if not made:
            return
        made.clear()


def _next(tasks: Iterator[Task], progress: Progress) -> Task | None:
    """The next task; None at the end, and where the run stops. A dataset that breaks stops it, and drains it."""
    if progress.stopped is not None:
        return None
    try:
        return next(tasks, None)
    except EnvkitError as error:
        progress.problem = error
        progress.stop("data", str(error))
        return None


async def _group(services: Services, task: Task, samples: list[int], k: int, progress: Progress) -> None:
    traces = await run_group(
        progress.env,
        task,
        services,
        samples,
        attempt=lambda sample: progress.attempt(task, sample),
        slots=progress.slots,
        finished=progress.save,
        earlier=progress.earlier(task, samples, k),
    )
    progress.save_group(traces)


@asynccontextmanager
async def bound(models: Model | Mapping[str, Model], env: Environment[Any]) -> AsyncGenerator[dict[str, Client]]:
    """A client for each role, asked once whether it answers; UsageError for a role that nobody speaks for."""
    wanted: Mapping[str, Model] = models if isinstance(models, Mapping) else {POLICY: models}
    for role in (POLICY, *env.roles):
        if role not in wanted:
            raise UsageError(f"The environment needs a model for the role {role!r}: say --role {role}=URL.")
    made: dict[str, Client] = {}
    clients: dict[str, Client] = {}
    try:
        for role, model in wanted.items():
            if isinstance(model, Client):
                clients[role] = model
                continue
            key = model if isinstance(model, str) else model.model_dump_json()
            key = f"oracle of {role}" if key == "oracle" else key  # which says another thing for each
            if key not in made:
                made[key] = await bind(model, env, role)
            clients[role] = made[key]
        yield clients
    finally:
        for client in made.values():
            await client.close()


def _directory(
    manifest: Manifest, out: str | Path | None, resume: Resume | None
) -> tuple[RunWriter | None, tuple[str, ...]]:
    """(where the run is written, the changes of its inputs that resumes accepted, this one and earlier ones)."""
    if out is None:
        return None, ()
    if resume is None:
        return RunWriter.create(Path(out), manifest), ()
    directory = RunWriter.reopen(Path(out))
    changes = _changes(directory.manifest.inputs, manifest.inputs)
    if changes and not resume.accept_changes:
        directory.close()
        raise UsageError(
            f"The run in {out} was made under other inputs: {'; '.join(changes)}. "
            "Run it as before, or add --accept-changes, which records this with each rollout."
        )
    accepted = [*directory.manifest.changes, *changes]
    options = manifest.options or directory.manifest.options
    directory.save(
        status="running",
        inputs=manifest.inputs,
        group_rewards=manifest.group_rewards,
        options=options,
        changes=accepted,
    )
    return directory, tuple(accepted)


def _inputs(
    env: Environment[Any], services: Services, selection: Selection, provenance: Mapping[str, Any], pool: Opened
) -> dict[str, Any]:
    """What decides the numbers of a run; all but `selection` must be the same for a resume."""
    inputs = {
        "env": {"name": env.name, "prompt": env.prompt_id, **provenance},
        "dataset": env.tasks.about,
        "models": {role: client.about() for role, client in services.models.items()},
        "sampling": {"environment": dict(env.sampling), "command line": dict(services.sampling)},
        "seed": services.seed,
        "limits": (services.limits or env.limits).model_dump(),
        "selection": asdict(selection),
    }
    return inputs if pool.about is None else {**inputs, "sandbox": pool.about}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The inputs that differ, each as a sentence. Servers and files may move: what they hold is compared."""
    old, new = _leaves(before), _leaves(orjson.loads(orjson.dumps(now)))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name} was {old.get(name, 'not set')}, is {new.get(name, 'not set')}" for name in names]


_MAY_DIFFER = {("selection",), ("dataset", "file"), ("dataset", "built")}
"""Inputs that say how many, where, and by which version of `datasets`; what is in the data, others say."""


def _leaves(inputs: Mapping[str, Any], under: tuple[str, ...] = ()) -> dict[str, Any]:
    """The inputs that must stay, by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in inputs.items():
        path = (*under, name)
        if path in _MAY_DIFFER or (path[0], path[2:]) == ("models", ("url",)):
            continue
        if isinstance(value, Mapping):
            leaves |= _leaves(cast("Mapping[str, Any]", value), path)
        else:
            leaves[".".join(path)] = value
    return leaves


def _versions() -> dict[str, str]:
    versions = {"envkit": envkit.__version__, "python": platform.python_version(), "platform": platform.platform()}
    if (commit := _git_commit()) is not None:
        versions["git"] = commit
    return versions


def _git_commit() -> str | None:
    """The commit of the working directory, marked where it has changes; None outside a checkout."""
    command = ["git", "-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, env={**os.environ})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
