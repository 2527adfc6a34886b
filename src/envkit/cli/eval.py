"""`envkit eval`: its options. What it does with them is in `running`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Text = str | None
Whole = int | None
Number = float | None
Many = list[str] | None

What = Annotated[
    Many,
    typer.Argument(metavar="ENV @config.toml", help="The environment (not with --resume), and files of options."),
]
Model = Annotated[Text, typer.Option("-m", "--model", help="The model's name at the endpoint.")]
EndpointOption = Annotated[
    Text,
    typer.Option(
        "-e", "--endpoint", help="Where it is served: a URL, an alias, oracle, nop, replay:FILE or human.",
    ),
]  # fmt: skip
KeyEnv = Annotated[Text, typer.Option("--key-env", metavar="NAME", help="The variable that holds the endpoint's key.")]
Role = Annotated[Many, typer.Option("--role", metavar="NAME=URL", help="The endpoint of another role, such as judge.")]
Sandbox = Annotated[
    Text,
    typer.Option("--sandbox", metavar="NAME", help="The sandbox backend, as docker:runsc; default: slot, or docker."),
]
UnsafeSandbox = Annotated[
    bool,
    typer.Option("--unsafe-sandbox", help="Run the model's programs as you, isolated from nothing: only trusted ones."),
]
Limit = Annotated[Whole, typer.Option("-n", "--limit", help="The first so many tasks.")]
Ids = Annotated[Many, typer.Option("--ids", metavar="ID,ID", help="Only these tasks.")]
Rollouts = Annotated[Whole, typer.Option("-k", "--rollouts", help="Attempts at each task; default: env.toml's.")]
Concurrency = Annotated[Whole, typer.Option("--concurrency", help="Live rollouts at a time; default: 32.")]
Arg = Annotated[Many, typer.Option("-a", "--arg", metavar="KEY=JSON", help="An argument of the environment.")]
Sampling = Annotated[Many, typer.Option("-s", "--sampling", metavar="KEY=JSON", help="A sampling parameter to send.")]
Temperature = Annotated[Number, typer.Option("--temperature", help="The same as -s temperature=...")]
MaxTokens = Annotated[Whole, typer.Option("--max-tokens", help="The same as -s max_tokens=...")]
Seed = Annotated[Whole, typer.Option("--seed", help="Each rollout gets a seed of its own, made from this one.")]
Shuffle = Annotated[bool | None, typer.Option("--shuffle", help="Shuffle the tasks (by --seed).")]
Data = Annotated[Text, typer.Option("--data", metavar="FILE|sample|replay:FILE", help="Other rows for the tasks.")]
Out = Annotated[Text, typer.Option("--out", metavar="DIR", help="The run's directory; default: a new one in runs/.")]
ResumeDir = Annotated[Text, typer.Option("--resume", metavar="DIR", help="Go on with this run, as it was begun.")]
Retry = Annotated[Many, typer.Option("--retry", metavar="env", help="Resume: also run the environment's failures.")]
AcceptChanges = Annotated[bool, typer.Option("--accept-changes", help="Resume: although inputs have changed.")]
RequestTimeout = Annotated[Number, typer.Option("--request-timeout", help="Seconds for a request; default: none.")]
MaxCost = Annotated[Number, typer.Option("--max-cost", metavar="USD", help="Begin nothing once so much is spent.")]
MaxTotalTokens = Annotated[Whole, typer.Option("--max-total-tokens", help="Begin nothing once so many are used.")]
FailUnder = Annotated[Number, typer.Option("--fail-under", metavar="MEAN", help="Exit 3 where the mean is lower.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run; ask the model nothing.")]
Json = Annotated[bool, typer.Option("--json", help="The report as one JSON object on stdout.")]


def evaluate(
    ctx: typer.Context,
    what: What = None,
    model: Model = None,
    endpoint: EndpointOption = None,
    key_env: KeyEnv = None,
    role: Role = None,
    sandbox: Sandbox = None,
    unsafe_sandbox: UnsafeSandbox = False,
    limit: Limit = None,
    ids: Ids = None,
    rollouts: Rollouts = None,
    concurrency: Concurrency = None,
    arg: Arg = None,
    sampling: Sampling = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    shuffle: Shuffle = None,
    data: Data = None,
    out: Out = None,
    resume: ResumeDir = None,
    retry: Retry = None,
    accept_changes: AcceptChanges = False,
    request_timeout: RequestTimeout = None,
    max_cost: MaxCost = None,
    max_total_tokens: MaxTotalTokens = None,
    fail_under: FailUnder = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run an environment and report the mean reward, its interval and what failed.

    A @config.toml holds the same options by their long names, with the tables [args], [sampling] and [roles];
    the command line wins over it.
    """
    from envkit.cli.running import Control, run

    control = Control(resume, tuple(retry or ()), accept_changes, dry_run, as_json, unsafe_sandbox)
    raise typer.Exit(run(what or [], _told(ctx.params), control))


_CONTROL = {"what", "resume", "retry", "accept_changes", "dry_run", "as_json", "unsafe_sandbox"}


def _told(params: dict[str, Any]) -> dict[str, Any]:
    """What the command line said of the run, by the names of `EvalOptions`."""
    from envkit.cli.options import pairs, split_ids

    said = {name: value for name, value in params.items() if name not in _CONTROL and value not in (None, [], ())}
    tables = {
        "args": pairs("-a", said.pop("arg", ())),
        "sampling": pairs("-s", said.pop("sampling", ())),
        "roles": pairs("--role", said.pop("role", ()), literal=True),
    }
    if "ids" in said:
        said["ids"] = split_ids(said["ids"])
    return said | {name: table for name, table in tables.items() if table}
