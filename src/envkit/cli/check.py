"""`envkit check`: what an environment must keep before its numbers can be trusted. No model is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from envkit.cli import exits
from envkit.cli.console import say, write, write_json


def check(
    env: Annotated[str, typer.Argument(metavar="ENV", help="A name, owner/name, or a path that starts with . or /.")],
    arg: Annotated[
        list[str] | None, typer.Option("-a", "--arg", metavar="KEY=JSON", help="An argument of the environment.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE|sample", help="Rows to check; default: its own sample.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="The first so many tasks.")] = 50,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", metavar="NAME", help="The sandbox backend, where it needs one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The gates as one JSON object on stdout.")] = False,
) -> None:
    """Check an environment without a model; exit 3 where it does not keep a gate."""
    import asyncio

    from envkit.cli.options import pairs
    from envkit.packages.check import check as gates_of
    from envkit.packages.find import find

    package = find(env)
    gates = asyncio.run(gates_of(package, args=pairs("-a", arg or ()), data=data, n=limit, sandbox=sandbox))
    failed = [gate for gate in gates if gate.status == "failed"]
    if as_json:
        said = [{"name": gate.name, "status": gate.status, "detail": gate.detail} for gate in gates]
        write_json({"env": package.name, "passed": not failed, "gates": said})
    else:
        for gate in gates:
            write(f"{_MARKS[gate.status]}  {gate.name}\n      {gate.detail}")
    if failed:
        say(f"\n{package.name} fails {len(failed)} of {len(gates)} gates.")
        raise typer.Exit(exits.GATE)
    say(f"\n{package.name} keeps all {len(gates)} gates.")


_MARKS = {"passed": " ok ", "warning": "look", "failed": "FAIL"}
