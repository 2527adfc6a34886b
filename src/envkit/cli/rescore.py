"""`envkit rescore`: score a run's rollouts again from their records, into a layer beside the first scores."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envkit.cli import exits
from envkit.cli.console import say, write, write_json

if TYPE_CHECKING:
    from envkit.clients.base import Client
    from envkit.environment import Environment
    from envkit.report import RolloutRow
    from envkit.runs import Manifest, RunWriter
    from envkit.sandbox.base import Backend
    from envkit.trace import Trace

CONCURRENCY = 32
"""Rollouts that are scored at a time: a judge's endpoint takes as many requests as a run's does by default."""


def rescore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")],
    layer: Annotated[str, typer.Option("--layer", metavar="NAME", help="What to call this scoring.")] = "rescore",
    role: Annotated[
        list[str] | None, typer.Option("--role", metavar="NAME=URL", help="The endpoint of a judge.")
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", metavar="NAME", help="The sandbox backend; default: the run's.")
    ] = None,
    unsafe_sandbox: Annotated[
        bool, typer.Option("--unsafe-sandbox", help="Run the model's programs as you, isolated from nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Score a run again with the environment as it is now; the policy is not asked."""
    import asyncio

    from envkit.cli.options import EvalOptions, pairs
    from envkit.cli.running import report_of, sandbox_of
    from envkit.errors import UsageError
    from envkit.runs import GROUP_LAYER, RunDirectory, RunWriter

    if layer == GROUP_LAYER:
        raise UsageError(f"The layer {layer!r} holds the run's own group rewards: name this scoring otherwise.")
    manifest = RunDirectory(run).manifest
    roles = pairs("--role", role or (), literal=True)
    options = EvalOptions.of((f"{run}/run.json", manifest.options), ("command line", {"roles": roles}))
    env = _environment(options.env, options.args, manifest)
    with RunWriter.reopen(run) as directory:
        before = directory.rows()
        where = sandbox_of(sandbox or options.sandbox, unsafe=unsafe_sandbox)
        rescored, failed = asyncio.run(_score_all(env, directory, options.roles, layer, where))
        after = directory.rows(layer)
        reports = report_of(directory), report_of(directory, layer)
    changed = sum(old.reward != new.reward for old, new in zip(before, after, strict=True))
    if as_json:
        old, new = (report.model_dump(mode="json") for report in reports)
        counts = {"rescored": rescored, "failed": failed, "changed": changed}
        write_json({"layer": layer, **counts, "before": old, "after": new})
    else:
        old, new = (_mean(report.mean) for report in reports)
        write(f"{rescored:,} rollouts scored again, {changed:,} have another reward.\nmean {old} before, {new} now")
    if failed:
        say(f"\n{failed:,} could not be scored: envkit show {run} --layer {layer} --failed")
        raise typer.Exit(exits.FAILED)
    say(f"\nlook  envkit show {run} --layer {layer}")


def _environment(ref: str | None, args: dict[str, Any], manifest: Manifest) -> Environment[Any]:
    """The environment that the run was made with, as it is now."""
    from envkit.packages.find import find

    package = find(ref or manifest.env)
    recorded = manifest.inputs.get("env", {}).get("tree_hash")
    if recorded is not None and recorded != package.tree_hash:
        say(f"{package.name} has changed since the run: this scores with the code that is here now.")
    return package.load(**args)


async def _score_all(
    env: Environment[Any],
    directory: RunWriter,
    roles: Mapping[str, str],
    layer: str,
    sandbox: Backend | str | None,
) -> tuple[int, int]:
    """Score every finished episode anew, groups with their group rewards, and save each group as it is done.

    (how many were scored, of how many the scoring failed)
    """
    import asyncio

    from envkit.lifecycle import score, score_group
    from envkit.report import latest
    from envkit.rollout import Services
    from envkit.sandbox.pool import opened

    places = asyncio.Semaphore(CONCURRENCY)
    count = failed = 0
    async with opened(sandbox, env.sandbox) as pool, _judges(env, roles) as clients:
        services = Services(clients, boxes=pool.boxes)

        async def one(trace: Trace) -> Trace:
            async with places:
                directory.load_images(trace)
                return await score(env, trace, services)

        await env.ready()
        try:
            for group in _groups(latest(directory.rows())):
                traces = await asyncio.gather(*(one(t) for t in directory.traces(group) if _can_be_scored(t)))
                await score_group(env, traces)
                directory.layer(layer, traces)
                count += len(traces)
                failed += sum(trace.outcome == "failed" for trace in traces)
        finally:
            await env.end()
    return count, failed


@asynccontextmanager
async def _judges(env: Environment[Any], roles: Mapping[str, str]) -> AsyncGenerator[dict[str, Client]]:
    """A client for each role; UsageError for a judge that nobody speaks for."""
    from envkit.cli.running import endpoint_of
    from envkit.clients.endpoint import bind
    from envkit.errors import UsageError
    from envkit.judge import Judge

    for reward in (*env.rewards, *env.metrics):
        if isinstance(reward.function, Judge) and reward.function.role not in roles:
            role = reward.function.role
            raise UsageError(f"The reward {reward.name!r} asks the role {role!r}: say --role {role}=URL.")
    async with AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for role, spec in roles.items():
            clients[role] = await bind(endpoint_of(spec), env, role)
            stack.push_async_callback(clients[role].close)
        yield clients


def _groups(rows: list[RolloutRow]) -> list[list[RolloutRow]]:
    """The rows, each task's together."""
    groups: dict[str, list[RolloutRow]] = {}
    for row in rows:
        groups.setdefault(row.task_hash, []).append(row)
    return list(groups.values())


def _can_be_scored(trace: Trace) -> bool:
    """An episode that failed has nothing to score; one whose scoring failed has."""
    return trace.error is None or trace.error.phase.startswith("score")


def _mean(mean: float | None) -> str:
    return "none" if mean is None else f"{mean:.4f}"
