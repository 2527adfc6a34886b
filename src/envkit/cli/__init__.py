"""The command line, one file a verb. Each imports what it needs when it is called, so that `--help` is quick."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import envkit
from envkit.cli import exits
from envkit.cli.check import check
from envkit.cli.console import fail, say
from envkit.cli.diff import diff
from envkit.cli.eval import evaluate
from envkit.cli.info import info
from envkit.cli.list import list_environments
from envkit.cli.rescore import rescore
from envkit.cli.sandbox import sandbox
from envkit.cli.show import show
from envkit.errors import EnvkitError


class Verbs(TyperGroup):
    """The verbs; the one place where an error becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (EnvkitError, OSError) as error:
            raise typer.Exit(fail(error)) from None
        except KeyboardInterrupt:
            say("Interrupted.")
            raise typer.Exit(exits.INTERRUPTED) from None


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"envkit {envkit.__version__}")
        raise typer.Exit


@app.callback()
def environments(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Verification environments for language models.

    What was asked for goes to stdout, messages to stderr. Exit codes: 0 ok, 1 some rollouts failed, 2 usage,
    3 a gate failed, 4 endpoint, key or secret, 5 budget, 130 interrupted (resumable).
    """


app.command("list")(list_environments)
app.command("info")(info)
app.command("eval")(evaluate)
app.command("show")(show)
app.command("diff")(diff)
app.command("rescore")(rescore)
app.command("check")(check)
app.add_typer(sandbox, name="sandbox")


def main() -> None:
    """Run the command that was typed; the process ends with one of the codes of `exits`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    app(prog_name="envkit")
