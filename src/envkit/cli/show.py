"""`envkit show`: a run's report, its rollouts, or one of them in full. Never imports the environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envkit.cli.console import columns, say, write, write_json

if TYPE_CHECKING:
    from envkit.report import RolloutRow
    from envkit.runs import RunDirectory
    from envkit.trace import Trace


LISTED = 20
"""Rollouts in a list that nobody asked to be longer: with the report above it, one screen."""


def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")],
    task_id: Annotated[str | None, typer.Argument(metavar="TASK_ID", help="One task's rollout, in full.")] = None,
    sample: Annotated[int | None, typer.Option("--sample", help="Which attempt; default: the first.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only rollouts that failed.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only rollouts that were scored below 1.")] = False,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", help="List so many rollouts; default: 20, all with --json.")
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", metavar="NAME", help="As a re-scoring has it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:  # fmt: skip
    """Show a run: its report and rollouts, or one rollout in full."""
    from envkit.cli.running import report_of
    from envkit.report import latest
    from envkit.runs import RunDirectory

    directory = RunDirectory(run)
    require_layer(directory, layer)
    rows = latest(directory.rows(layer))
    if task_id is not None:
        row = _row_of(rows, task_id, sample, directory)
        _one(next(directory.scored_traces([row], layer)), row, as_json=as_json)
        others = [str(other.sample) for other in rows if other.task_hash == row.task_hash and other is not row]
        if others and sample is None:
            say(f"\nThis task was attempted {len(others) + 1} times; --sample {others[0]} shows another.")
        return
    report = report_of(directory, layer)
    chosen = [row for row in rows if _is_wanted(row, failed=failed, wrong=wrong)]
    if as_json:
        listed = [_plain(row) for row in chosen[:limit]]
        write_json({**report.model_dump(mode="json"), "status": directory.manifest.status, "rollouts": listed})
        return
    write(f"{directory.manifest.env} · {directory.manifest.model}, {directory.manifest.status}\n\n{report}\n")
    _list(chosen, LISTED if limit is None else limit, what="failed" if failed else "wrong" if wrong else "")
    say(f"\nOne in full: envkit show {run} TASK_ID [--sample N]")


def require_layer(directory: RunDirectory, layer: str | None) -> None:
    """UsageError where the run has no such layer."""
    from envkit.errors import UsageError

    if layer is not None and layer not in directory.layers():
        known = ", ".join(directory.layers()) or "none"
        raise UsageError(f"{directory.path} has no layer {layer!r}. Its layers: {known}.")


def _is_wanted(row: RolloutRow, *, failed: bool, wrong: bool) -> bool:
    is_wrong = row.reward is not None and row.reward < 1
    is_failed = row.outcome == "failed"
    return (failed and is_failed) or (wrong and is_wrong) if failed or wrong else True


def _row_of(rows: list[RolloutRow], task_id: str, sample: int | None, directory: RunDirectory) -> RolloutRow:
    """The row of this task's attempt; UsageError with the nearest ids where there is none."""
    import difflib

    from envkit.errors import UsageError

    of_task = [row for row in rows if row.task_id == task_id]
    if not of_task:
        near = difflib.get_close_matches(task_id, {row.task_id for row in rows}, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UsageError(f"{directory.path} has no rollout of a task {task_id!r}.{hint}")
    if sample is None:
        return min(of_task, key=lambda row: row.sample)
    for row in of_task:
        if row.sample == sample:
            return row
    raise UsageError(f"Task {task_id!r} has the samples {', '.join(str(row.sample) for row in of_task)}; not {sample}.")


def _list(rows: list[RolloutRow], limit: int, *, what: str) -> None:
    from envkit.terminal import one_line

    if not rows:
        write(f"No rollouts are {what}." if what else "There are no rollouts.")
        return
    head = ["task", "sample", "reward", "outcome", "answer", ""]
    lines = [
        [
            one_line(row.task_id, 40),
            str(row.sample),
            "-" if row.reward is None else f"{row.reward:g}",
            row.outcome if row.stop in ("done", "error") else f"{row.outcome} ({row.stop})",
            one_line(row.answer or "", 24),
            one_line(row.error or row.reason or "", 60),
        ]
        for row in rows[:limit]
    ]
    write(columns([head, *lines], right=(1, 2)))
    if len(rows) > limit:
        say(f"… {len(rows) - limit:,} more: -n {len(rows)}")


def _one(trace: Trace, row: RolloutRow, *, as_json: bool) -> None:
    if as_json:
        write_json({**trace.model_dump(mode="json", by_alias=True), "task": trace.task.model_dump(mode="json")})
        return
    from envkit.cli.transcript import transcript

    write(transcript(trace, row))


def _plain(row: RolloutRow) -> dict[str, Any]:
    from dataclasses import asdict

    said = asdict(row)
    return {name: value for name, value in said.items() if name not in ("offset", "length")}
