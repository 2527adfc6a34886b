"""A run's statistics, computed from one `RolloutRow` a rollout."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from envkit import exact, stats
from envkit.terminal import one_line
from envkit.trace import Outcome, Score, Trace

if TYPE_CHECKING:
    from rich.table import Table

SHORT, LONG = 120, 240
"""Bytes of JSON that a model's answer or reason, and an error's message, may take of a row."""
TOOLS = 12
"""Tools of a rollout that its row names; more would not fit in a kilobyte. The trace has all."""
NO_ANSWER = frozenset({"empty", "no_box", "unclosed_think", "no_hashes", "no_code", "no program in the reply"})
"""Reasons of a verifier that found no answer in the reply."""
MAX_INFRA_FAILURES = 0.02
"""The share of rollouts that may fail for infrastructure reasons before there is no headline number."""
ASK_AGAIN = "ask it again with `envkit rescore`"
HAT = (1, 2, 3, 4)
"""Where pass^k is given beside the powers of two: the table that benchmarks of tool agents print, pass^1 to pass^4."""
WIDTH = 400
"""Characters of a line of the report: its longest sentence, and no more of a name that a model or a dataset wrote."""


@dataclass(slots=True)  # frozen, it would take three times as long to make
class RolloutRow:
    """What statistics, lists and resume need of one rollout: the line of `index.jsonl`, under 1 KB.

    `cost` is in US dollars, None where the price of a call is unknown; times are seconds.
    """

    task_id: str
    task_hash: str
    sample: int
    attempt: int
    outcome: Outcome
    stop: str
    reward: float | None
    rewards: dict[str, float | None] = field(default_factory=dict[str, float | None])
    metrics: dict[str, float | None] = field(default_factory=dict[str, float | None])
    answer: str | None = None
    reason: str | None = None
    error_kind: str | None = None
    """Whose fault it is that there is no reward, where something failed: the rollout, or a judge of it."""
    error: str | None = None
    retryable: bool = False
    turns: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    started: float = 0.0
    seconds: float = 0.0
    cost: float | None = None
    tools: dict[str, tuple[int, int, float]] = field(default_factory=dict[str, "tuple[int, int, float]"])
    """(calls, errors, seconds) of the tools that were called most, at most `TOOLS` of them."""
    offset: int = 0
    length: int = 0

    @classmethod
    def of(cls, trace: Trace, *, offset: int = 0, length: int = 0) -> RolloutRow:
        """The row of a trace, whose line lies at `offset` of `rollouts.jsonl`, `length` bytes with its newline."""
        said = next(iter(trace.scores.values()), None)
        error = trace.error
        unjudged = _unjudged(trace) if trace.reward is None and error is None else None
        prompt_tokens = completion_tokens = retries = 0
        cost: float | None = 0.0
        for turn in (*trace.turns, *trace.judging):
            if turn.usage is not None:
                prompt_tokens += turn.usage.prompt_tokens
                completion_tokens += turn.usage.completion_tokens
            retries += turn.retries
            cost = None if cost is None or turn.cost is None else cost + turn.cost
        return cls(
            task_id=trace.task_id,
            task_hash=trace.task_hash,
            sample=trace.sample,
            attempt=trace.attempt,
            outcome=trace.outcome,
            stop=trace.stop,
            reward=trace.reward,
            rewards=dict(trace.rewards),
            metrics=dict(trace.metrics),
            answer=_short(said.answer, SHORT) if said else None,
            reason=_short(said.reason, SHORT) if said else None,
            error_kind=error.kind if error else unjudged.fault if unjudged else None,
            error=_short(error.message, LONG) if error else _short(unjudged.reason, LONG) if unjudged else None,
            retryable=error.retryable if error else False,
            turns=len(trace.turns),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            retries=retries,
            started=trace.timing.started,
            seconds=trace.timing.run + trace.timing.score,
            cost=cost,
            tools=_most_used(trace) if trace.tools else {},
            offset=offset,
            length=length,
        )

    def scored_as(self, trace: Trace) -> RolloutRow:
        """This row with what another scoring said of its rollout."""
        new = RolloutRow.of(trace)
        return replace(self, **{name: getattr(new, name) for name in _SCORED})


_SCORED = (
    "outcome", "stop", "reward", "rewards", "metrics", "answer", "reason", "error_kind", "error", "retryable",
)  # fmt: skip


def latest(rows: Iterable[RolloutRow]) -> list[RolloutRow]:
    """The row that counts of each (task, sample): that of its highest attempt."""
    found: dict[tuple[str, int], RolloutRow] = {}
    for row in rows:
        known = found.get((row.task_hash, row.sample))
        if known is None or row.attempt >= known.attempt:
            found[row.task_hash, row.sample] = row
    return list(found.values())


class Report(BaseModel):
    """What a run came to.

    `mean` (for k > 1 also called avg@k) is over the scored rollouts, `mean_failed_as_zero` over scored and failed
    ones. `stderr` and `ci95` are clustered by task (`stats.standard_error`, `stats.interval`). A success, for
    `pass_at` and `pass_hat`, is a reward of at least `stats.SUCCESS`; both, and `majority_at_k`, are over the tasks
    with enough scored rollouts, and `left_out` counts the others. Seconds, US dollars; None where there is nothing
    to compute from, never a number from nothing.
    """

    model_config = ConfigDict(frozen=True)

    run: str | None
    env: str
    model: str
    n_tasks: int
    k: int
    headline: float | None
    """The mean, where it may be quoted; `refused` says why not."""
    refused: str | None
    mean: float | None
    stderr: float | None
    ci95: tuple[float, float] | None
    mean_failed_as_zero: float | None
    rollouts: int
    """Those that count: the highest attempt of each (task, sample). It is scored + unscored + failed."""
    scored: int
    unscored: int
    undecided: int
    """The unscored ones of which a reward said None; the others were asked no reward."""
    failed: int
    failed_by_kind: dict[str, int]
    truncated: int
    """Cut short by a limit; they are scored all the same."""
    truncated_by: dict[str, int]
    no_answer: int
    retried: int
    """Rollouts of which a call was repeated."""
    tokens: dict[str, int]
    """Of all attempts, as is `cost`: also of those that a later one took the place of."""
    seconds: float
    """From the first start to the last end."""
    seconds_per_rollout: float | None
    """The median."""
    cost: float | None
    pass_at: dict[int, float]
    pass_hat: dict[int, float]
    left_out: dict[int, int]
    """For each k of `pass_at` and `pass_hat`: tasks that have fewer than k scored rollouts, and so no part in it."""
    majority_at_k: float | None
    rewards: dict[str, float | None]
    metrics: dict[str, float | None]
    tools: dict[str, dict[str, int | float]]
    """By name: calls, errors that went back to the model, and seconds of a call in the mean."""
    skipped_groups: int
    """Tasks of which no rollout has the group rewards: fewer than two were there to compare."""
    stopped: str | None = None
    """Why the run ended before its end."""

    @classmethod
    def of(
        cls,
        rows: Iterable[RolloutRow],
        *,
        env: str,
        model: str,
        k: int,
        run: str | None = None,
        n_tasks: int | None = None,
        stopped: str | None = None,
        group_rewards: Sequence[str] = (),
    ) -> Report:
        """The report on these rows, of which the highest attempt of each (task, sample) counts.

        `n_tasks` is how many tasks there should be; without it, those that have a row. `group_rewards` are the names
        of those that the environment has.
        """
        given = list(rows)
        counted = latest(given)
        by_task: defaultdict[str, list[RolloutRow]] = defaultdict(list)
        for row in counted:
            by_task[row.task_hash].append(row)
        tasks = list(by_task.values())
        groups = [[row.reward for row in task if row.reward is not None] for task in tasks]
        wanted = len(tasks) if n_tasks is None else n_tasks
        scored = sum(map(len, groups))
        failed = sum(row.outcome == "failed" for row in counted)
        mean = stats.mean(groups)
        refused = _nothing_scored(counted) if mean is None else _refusal(tasks, wanted, k, counted, stopped)
        return cls(
            run=run,
            env=env,
            model=model,
            n_tasks=wanted,
            k=k,
            headline=mean if refused is None else None,
            refused=refused,
            mean=mean,
            stderr=stats.standard_error(groups),
            ci95=stats.interval(groups),
            mean_failed_as_zero=None if mean is None else mean * scored / (scored + failed),
            scored=scored,
            unscored=len(counted) - scored - failed,
            failed=failed,
            pass_at=_by_k(stats.pass_at, groups, k),
            pass_hat=_by_k(stats.pass_hat, groups, k, also=HAT),
            left_out={n: sum(len(group) < n for group in groups) for n in _up_to(k, HAT)},
            majority_at_k=_majority(tasks, k) if k > 1 else None,
            skipped_groups=_skipped_groups(tasks, set(group_rewards)),
            stopped=stopped,
            **_accounts(counted),
            **_spent(given),
        )

    def lines(self) -> list[tuple[str, str]]:
        """The report as (what, how much) pairs: the number, then what it stands on."""
        number = _number(self.mean)
        if self.stderr is not None:
            number += f" ± {self.stderr:.4f}"
        if self.ci95 is not None:
            number += f"  (95 % {self.ci95[0]:.4f} to {self.ci95[1]:.4f})"
        mean = f"mean reward, avg@{self.k}" if self.k > 1 else "mean reward"
        lines = [(mean if self.refused is None else "mean of the scored", number)]
        if self.refused is not None:
            lines.insert(0, ("no headline", self.refused))
        lines.append(("failed as 0", _number(self.mean_failed_as_zero)))
        if self.k > 1:
            passed = [(f"pass@{k}", k, value) for k, value in self.pass_at.items() if k > 1]
            passed += [(f"pass^{k}", k, value) for k, value in self.pass_hat.items()]
            lines += [(what, f"{value:.4f}{self._without(k)}") for what, k, value in passed]
        if self.majority_at_k is not None:
            lines.append((f"majority@{self.k}", f"{self.majority_at_k:.4f}{self._without(self.k)}"))
        parts = [*self.rewards.items()] if len(self.rewards) > 1 else []
        lines += [(name, _number(value)) for name, value in (*parts, *self.metrics.items())]
        return lines + self._accounts()

    def _without(self, k: int) -> str:
        left_out = self.left_out[k]
        return f"  (without {left_out:,} of {self.n_tasks:,} tasks: fewer than {k} scored)" if left_out else ""

    def _accounts(self) -> list[tuple[str, str]]:
        each = self.seconds_per_rollout
        lines = [
            ("tasks", f"{self.n_tasks:,} x {self.k}, {self.rollouts:,} rollouts"),
            ("scored", f"{self.scored:,}"),
            ("unscored", f"{self.unscored:,}" + _parts({"undecided": self.undecided} if self.undecided else {})),
            ("failed", self._share(self.failed) + _parts(self.failed_by_kind)),
            ("truncated", self._share(self.truncated) + _parts(self.truncated_by)),
            ("no answer", self._share(self.no_answer)),
            ("retried", f"{self.retried:,}"),
            ("tokens", f"{self.tokens['prompt']:,} in, {self.tokens['completion']:,} out"),
            ("time", f"{self.seconds:.1f} s" + ("" if each is None else f", median rollout {each:.2f} s")),
        ]
        lines += [
            (f"tool {name}", f"{use['calls']:,} calls, {use['errors']:,} errors, {use['seconds']:.3f} s each")
            for name, use in self.tools.items()
        ]
        if self.skipped_groups:
            lines.append(("skipped groups", f"{self.skipped_groups:,} with fewer than two rollouts to compare"))
        if self.cost is not None:
            lines.append(("cost", f"${self.cost:.4f}"))
        return lines

    def _share(self, count: int) -> str:
        return f"{count:,}, {count / self.rollouts:.1%}" if count else "0"

    def table(self) -> Table:
        """The report as a table for a terminal."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(one_line(f"{self.env} · {self.model}")), show_header=False, title_justify="left")
        table.add_column(style="dim")
        table.add_column()
        for what, much in self.lines():
            table.add_row(escape(one_line(what)), escape(one_line(much, WIDTH)))
        return table

    def __str__(self) -> str:
        return "\n".join(f"{one_line(what):<19} {one_line(much, WIDTH)}" for what, much in self.lines())


def _refusal(
    tasks: Sequence[Sequence[RolloutRow]], wanted: int, k: int, rows: Sequence[RolloutRow], stopped: str | None
) -> str | None:
    """Why the mean must not be quoted; None where it may."""
    if stopped is not None:
        return f"the run did not come to its end ({stopped}); resume it"
    uneven = wanted - len(tasks) + sum(len(task) != k for task in tasks)
    if uneven:
        return f"{uneven} of {wanted} tasks do not have {k} rollouts; resume the run"
    broken, unjudged = _broken(rows), _left_unjudged(rows)
    if broken + unjudged <= MAX_INFRA_FAILURES * len(rows):
        return None
    why: list[str] = []
    if broken:
        why.append(
            f"{broken} of {len(rows)} rollouts failed for the endpoint's or the infrastructure's reasons; "
            "resume the run"
        )
    if unjudged:
        why.append(f"{unjudged} of {len(rows)} rollouts are unscored because a judge failed; {ASK_AGAIN}")
    return "; ".join(why)


def _nothing_scored(rows: Sequence[RolloutRow]) -> str:
    return "no rollout was scored" + (f": a judge failed; {ASK_AGAIN}" if _left_unjudged(rows) else "")


def _broken(rows: Sequence[RolloutRow]) -> int:
    return sum(row.outcome == "failed" and row.error_kind in ("infra", "model") for row in rows)


def _left_unjudged(rows: Sequence[RolloutRow]) -> int:
    return sum(row.outcome != "failed" and row.error_kind is not None for row in rows)


def _accounts(rows: Sequence[RolloutRow]) -> dict[str, Any]:
    """The report's fields that count, add up or average over single rollouts."""
    return {
        "rollouts": len(rows),
        "undecided": sum(
            row.outcome != "failed" and row.reward is None and None in row.rewards.values() for row in rows
        ),
        "failed_by_kind": _counts(row.error_kind or "unknown" for row in rows if row.outcome == "failed"),
        "truncated": sum(row.outcome == "truncated" for row in rows),
        "truncated_by": _counts(row.stop for row in rows if row.outcome == "truncated"),
        "no_answer": sum(row.reason in NO_ANSWER for row in rows),
        "retried": sum(row.retries > 0 for row in rows),
        "seconds": _span(rows),
        "seconds_per_rollout": statistics.median(row.seconds for row in rows) if rows else None,
        "rewards": _means([row.rewards for row in rows]),
        "metrics": _means([row.metrics for row in rows]),
        "tools": _tools(rows),
    }


def _spent(rows: Sequence[RolloutRow]) -> dict[str, Any]:
    """What these attempts took, all of them: one that failed and was made again was paid for too."""
    costs = [row.cost for row in rows]
    return {
        "tokens": {
            "prompt": sum(row.prompt_tokens for row in rows),
            "completion": sum(row.completion_tokens for row in rows),
        },
        "cost": None if None in costs or not costs else math.fsum(cost for cost in costs if cost is not None),
    }


def _unjudged(trace: Trace) -> Score | None:
    """What a reward said that could not decide because something failed."""
    return next((score for score in trace.scores.values() if score.fault is not None), None)


def _most_used(trace: Trace) -> dict[str, tuple[int, int, float]]:
    most = sorted(trace.tools.items(), key=lambda item: -item[1].calls)[:TOOLS]
    return {name[:40]: (use.calls, use.errors, round(use.seconds, 4)) for name, use in most}


def _tools(rows: Sequence[RolloutRow]) -> dict[str, dict[str, int | float]]:
    """What each tool was called for in all rollouts, the most used first."""
    calls, errors, seconds = Counter[str](), Counter[str](), defaultdict[str, float](float)
    for row in rows:
        for name, use in row.tools.items():
            calls[name] += use[0]
            errors[name] += use[1]
            seconds[name] += use[2]
    return {
        name: {"calls": count, "errors": errors[name], "seconds": seconds[name] / count}
        for name, count in calls.most_common()
    }


def _counts(names: Iterable[str]) -> dict[str, int]:
    """How often each name comes, the most frequent first."""
    return dict(Counter(names).most_common())


def _up_to(k: int, also: Sequence[int] = ()) -> list[int]:
    """1, 2, 4, … and k, and those of `also` that are below it."""
    return sorted({*(2**i for i in range(k.bit_length())), *(n for n in also if n < k), k})


def _by_k(
    statistic: Callable[[stats.Groups, int], float | None], groups: stats.Groups, k: int, *, also: Sequence[int] = ()
) -> dict[int, float]:
    """The statistic at 1, 2, 4, … and k, and at `also`, where there is one."""
    values = {n: statistic(groups, n) for n in _up_to(k, also)}
    return {n: value for n, value in values.items() if value is not None}


def _majority(tasks: Sequence[Sequence[RolloutRow]], k: int) -> float | None:
    """majority@k over the tasks with k scored rollouts; None where no rollout has an answer to vote with.

    Rollouts without an answer do not vote. Where a task has none that does, nothing tells its rollouts apart: it
    counts with the mean of their rewards, for leaving it out would favour a model that often gives no answer.
    """
    votes: list[list[tuple[str, float]]] = []
    anyone = False
    for task in tasks:
        scored = [(row.answer, row.reward) for row in task if row.reward is not None]
        if len(scored) < k:
            continue
        given = [(answer, reward) for answer, reward in scored if answer is not None]
        anyone = anyone or bool(given)
        votes.append(given or [("", reward) for _, reward in scored])
    return stats.majority(votes) if anyone else None


def _skipped_groups(tasks: Sequence[Sequence[RolloutRow]], names: set[str]) -> int:
    """Tasks of which no rollout has these rewards, if there are any."""
    return sum(not any(names <= row.rewards.keys() for row in task) for task in tasks)


def _means(values: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each name over the rows that have a value for it; None where none has."""
    given: dict[str, list[float]] = {}
    for row in values:
        for name, value in row.items():
            known = given.setdefault(name, [])
            if value is not None:
                known.append(value)
    return {name: math.fsum(numbers) / len(numbers) if numbers else None for name, numbers in given.items()}


def _span(rows: Sequence[RolloutRow]) -> float:
    """Seconds from the first start to the last end."""
    if not rows:
        return 0.0
    return max(row.started + row.seconds for row in rows) - min(row.started for row in rows)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _parts(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.items())})" if counts else ""


def _short(text: str | None, size: int) -> str | None:
    """The text, or where its JSON is longer than `size` bytes, its beginning and a digest: still one for each text."""
    if text is None or 6 * len(text) + 2 <= size:  # a character takes six bytes at most
        return text
    if len(exact.dumps(text)) <= size:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return text[: size // 8] + f"…{digest}"
