"""What `envkit eval` does: read the options, load the environment, run it, report, and end with the right code."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envkit.cli import exits
from envkit.cli.console import say, show_table, write_json
from envkit.cli.interrupts import Interrupts
from envkit.cli.options import EvalOptions, read_config
from envkit.cli.progress import Display, display
from envkit.clients.endpoint import SCRIPTED, Endpoint, aliases, endpoint
from envkit.environment import Environment
from envkit.errors import EnvkitError, ModelError, UsageError
from envkit.evaluate import GRACE, Resume, Selection, evaluate
from envkit.packages.find import Package, find
from envkit.progress import Budget, Progress, Stopped
from envkit.report import Report, latest
from envkit.rollout import POLICY
from envkit.runs import Manifest, RunDirectory

if TYPE_CHECKING:
    from envkit.sandbox.base import Backend

RUNS = Path("runs")
"""Where runs go, in the working directory, unless `--out` says otherwise."""


@dataclass(frozen=True)
class Control:
    """What the command line says of this one call, and not of the run."""

    resume: str | None = None
    retry: tuple[str, ...] = ()
    accept_changes: bool = False
    dry_run: bool = False
    as_json: bool = False
    unsafe_sandbox: bool = False


@dataclass(frozen=True)
class Plan:
    """What is about to run, all of it checked but for the endpoints."""

    options: EvalOptions
    package: Package
    env: Environment[Any]
    models: Mapping[str, str | Endpoint]
    selection: Selection
    n_tasks: int

    @property
    def n_rollouts(self) -> int:
        return self.n_tasks * self.selection.k

    @classmethod
    def of(cls, options: EvalOptions) -> Plan:
        """UsageError for what cannot run, ModelError for a secret that is not set. Reads the selected tasks once."""
        if options.env is None:
            raise UsageError("Say which environment to run: envkit eval ENV -e URL. `envkit list` shows them.")
        package = find(options.env)
        for secret in package.manifest.needs.secrets:
            if not os.environ.get(secret):
                raise ModelError(f"{package.name} needs a secret: set the environment variable {secret}.")
        models = _models(options)
        if options.max_cost is not None:
            _require_prices(models)
        env = package.load(options.data, **options.args)
        shuffle = (options.seed or 0) if options.shuffle else None
        selection = Selection(options.rollouts or package.manifest.rollouts, options.limit, options.ids, shuffle)
        n_tasks = sum(1 for _ in selection.tasks(env.tasks))
        return cls(options, package, env, models, selection, n_tasks)


def run(what: Sequence[str], told: Mapping[str, Any], control: Control) -> int:
    """The whole command; its exit code."""
    options = _options(what, told, control)
    plan = Plan.of(options)
    if control.dry_run:
        from envkit.cli.preview import preview

        return asyncio.run(preview(plan, as_json=control.as_json, unsafe=control.unsafe_sandbox))
    gc.freeze()  # what is there by now stays, and need not be looked through
    outcome = asyncio.run(_evaluate(plan, control))
    _tell(outcome, as_json=control.as_json)
    return _exit_code(outcome, options.fail_under)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `stopped` is None where it came to its end."""

    report: Report
    stopped: Stopped | None
    directory: Path


def _options(what: Sequence[str], told: Mapping[str, Any], control: Control) -> EvalOptions:
    """The options of this run: of the run that goes on, under those of config files, under the command line's."""
    names = [word for word in what if not word.startswith("@")]
    if len(names) > 1:
        raise UsageError(f"One environment at a time: {' '.join(names)} are {len(names)}.")
    layers: list[tuple[str, Mapping[str, Any]]] = [(w[1:], read_config(w[1:])) for w in what if w.startswith("@")]
    layers.append(("command line", {**told, **({"env": names[0]} if names else {})}))
    if control.resume is None:
        if control.retry or control.accept_changes:
            raise UsageError("--retry and --accept-changes are said of a run that goes on: add --resume DIR.")
        return EvalOptions.of(*layers)
    if other := sorted({*control.retry} - {"env", "model", "infra"}):
        raise UsageError(f"--retry {other[0]}: failures are of the kind env; model and infra are always tried again.")
    if "out" in told:
        raise UsageError("--resume goes on in the run's own directory: leave out --out.")
    layers.insert(0, (f"{control.resume}/run.json", _recorded(Path(control.resume), layers)))
    return EvalOptions.of(*layers).model_copy(update={"out": control.resume})


def _recorded(path: Path, told: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What the run that goes on was told. A budget that stopped it does not stop it again."""
    manifest = RunDirectory(path).manifest
    said = dict(manifest.options)
    if not said and not any("env" in layer for _, layer in told):
        raise UsageError(f"{path} was not begun by `envkit eval`: name its environment and endpoint beside --resume.")
    spent = [
        f"--{name.replace('_', '-')} {said.pop(name)}" for name in ("max_cost", "max_total_tokens") if name in said
    ]
    if spent and manifest.status != "budget":
        return dict(manifest.options)
    if spent:
        say(f"{' and '.join(spent)}, which stopped this run, counts no more; say it anew for another budget.")
    return said


def _models(options: EvalOptions) -> dict[str, str | Endpoint]:
    spec = options.endpoint
    if spec is None and options.model in aliases():
        spec = options.model
    if spec is None and POLICY not in options.roles:
        raise UsageError(
            "Say where the model is served: -e http://host:port/v1, with -m MODEL where it serves more than one; "
            f"or -e ALIAS of endpoints.toml; or -e {', '.join(SCRIPTED)}."
        )
    models = {
        role: endpoint_of(other, request_timeout=options.request_timeout) for role, other in options.roles.items()
    }
    if spec is not None:
        named = None if options.endpoint is None else options.model
        models[POLICY] = endpoint_of(spec, model=named, key=options.key_env, request_timeout=options.request_timeout)
    return models


def _require_prices(models: Mapping[str, str | Endpoint]) -> None:
    """UsageError where a budget in dollars could not be kept: unpriced calls would count as free."""
    for model in models.values():
        if isinstance(model, Endpoint) and model.cost(1, 1) is None:
            raise UsageError(
                f"--max-cost needs the prices of {model.url}: give it an alias in endpoints.toml with input_price and "
                "output_price (US dollars for a million tokens), or use --max-total-tokens."
            )


def endpoint_of(spec: str, **said: Any) -> str | Endpoint:
    """A scripted model by its name, a served one as its endpoint with what was said on the command line."""
    kind, colon, file = spec.partition(":")
    if spec in SCRIPTED or (kind == "replay" and colon and not file.startswith("//")):
        return spec
    return endpoint(spec).with_(**said)


def sandbox_of(name: str | None, *, unsafe: bool) -> Backend | str | None:
    """What the command line says of the sandbox, as `evaluate` takes it."""
    if not unsafe:
        return name
    from envkit.sandbox import find

    if name not in (None, find.UNSAFE):
        raise UsageError(f"--sandbox {name} and --unsafe-sandbox contradict each other: say one of them.")
    return find.backend(find.UNSAFE, unsafe=True)


async def _evaluate(plan: Plan, control: Control) -> Outcome:
    options, env = plan.options, plan.env
    task = asyncio.current_task()
    assert task is not None
    shown = display(env.name, plan.n_rollouts, bar="human" not in plan.models.values())
    with Interrupts(task, grace=GRACE, note=shown.note) as interrupts:
        resume = None if control.resume is None else Resume(control.retry, control.accept_changes)
        try:
            async with shown.showing():
                report = await evaluate(
                    env,
                    plan.models,
                    k=plan.selection.k,
                    limit=options.limit,
                    ids=options.ids,
                    shuffle=plan.selection.shuffle,
                    concurrency=options.concurrency,
                    out=options.out or (lambda manifest: RUNS / manifest.folder()),
                    resume=resume,
                    sampling=options.sampling,
                    seed=options.seed,
                    sandbox=sandbox_of(options.sandbox, unsafe=control.unsafe_sandbox),
                    budget=Budget(options.max_cost, options.max_total_tokens),
                    listener=shown.listen,
                    provenance=_provenance(plan),
                    options=options.recorded(),
                    started=partial(_started, shown, interrupts, control.retry),
                )
        except asyncio.CancelledError:
            if interrupts.progress is None:
                raise KeyboardInterrupt from None
            directory = RunDirectory(_path(interrupts.progress))
            return Outcome(report_of(directory), "interrupted", directory.path)
        except EnvkitError:
            if interrupts.progress is not None and interrupts.progress.done:
                say(f"What was finished by then is in {_path(interrupts.progress)}.")
            raise
    progress = interrupts.progress
    assert progress is not None
    return Outcome(report, "interrupted" if interrupts.count else progress.stopped, _path(progress))


def _started(shown: Display, interrupts: Interrupts, retry: Sequence[str], progress: Progress) -> None:
    assert progress.directory is not None
    again = Resume(tuple(retry)).again
    shown.introduce(
        f"{progress.directory.manifest.env} · {progress.directory.manifest.model}",
        [row for row in progress.done.values() if row.outcome != "failed" or row.error_kind not in again],
        where=str(progress.directory.path),
    )
    interrupts.progress = progress


def _provenance(plan: Plan) -> dict[str, Any]:
    package = plan.package
    return {
        "origin": package.origin,
        "version": package.version,
        "tree_hash": package.tree_hash,
        "args": plan.options.args,
    }


def _path(progress: Progress) -> Path:
    assert progress.directory is not None
    return progress.directory.path


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    """The table and what to do next, on stderr; the report as JSON on stdout."""
    report, directory = outcome.report, outcome.directory
    show_table(report)
    if outcome.stopped is not None and report.stopped:
        say(f"Stopped before its end: {report.stopped}\n")
    path = shlex.quote(str(directory))
    say(f"look     envkit show {path}")
    say(f"resume   envkit eval --resume {path}")
    earlier = _earlier_run(directory)
    say(f"compare  envkit diff {shlex.quote(str(earlier)) if earlier else 'OTHER_RUN'} {path}")
    if as_json:
        write_json(report.model_dump(mode="json"))


def _earlier_run(directory: Path) -> Path | None:
    """The run of the same environment that was begun last before this one, beside it."""
    env = directory.name.split("_")[1:2]
    others = [path for path in directory.parent.glob("*_*_*_*") if path.name.split("_")[1:2] == env]
    return max((path for path in others if path.name < directory.name), default=None) if env else None


def _exit_code(outcome: Outcome, fail_under: float | None) -> int:
    report = outcome.report
    match outcome.stopped:
        case "interrupted":
            return exits.INTERRUPTED
        case "budget":
            return exits.BUDGET
        case "endpoint":
            return exits.ENDPOINT
        case "disk" | "data":
            return exits.FAILED
        case None:
            pass
    if report.failed_by_kind == {"model": report.rollouts} and _endpoint_failed(outcome.directory):
        return exits.ENDPOINT
    if fail_under is not None and (report.mean is None or report.mean < fail_under):
        mean = "there is none" if report.mean is None else f"it is {report.mean:.4f}"
        say(f"\nThe mean is not the {fail_under:g} that --fail-under asks for: {mean}.")
        return exits.GATE
    return exits.FAILED if report.failed else exits.OK


def _endpoint_failed(path: Path) -> bool:
    """Whether every failure is one of a server: a limit that cut a role short, or a replay's gap, is none."""
    directory = RunDirectory(path)
    errors = (trace.error for trace in directory.traces(latest(directory.rows())))
    return all(error is not None and (error.status is not None or error.retryable) for error in errors)


def report_of(directory: RunDirectory, layer: str | None = None) -> Report:
    """The report of a run, computed anew from its index."""
    manifest: Manifest = directory.manifest
    return Report.of(
        directory.rows(layer),
        env=manifest.env,
        model=manifest.model,
        run=str(directory.path),
        k=manifest.k,
        stopped=None if manifest.status == "finished" else manifest.status,
        group_rewards=manifest.group_rewards,
    )
