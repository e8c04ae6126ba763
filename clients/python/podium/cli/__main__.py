"""Entry point of `podium`.

Each command's module is imported when it is called: gRPC and the tables take a third of a second
that `podium --version` need not wait for.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# Command -> module that defines it.
COMMANDS = {
    "submit": "podium.cli.submit",
    "get": "podium.cli.tasks",
    "list": "podium.cli.tasks",
    "watch": "podium.cli.tasks",
    "cancel": "podium.cli.tasks",
    "requeue": "podium.cli.tasks",
    "answer": "podium.cli.tasks",
    "pause": "podium.cli.holds",
    "resume": "podium.cli.holds",
    "queue": "podium.cli.holds",
    "schedule": "podium.cli.schedule",
    "log": "podium.cli.log",
    "partitions": "podium.cli.log",
    "why": "podium.cli.explain",
    "trace": "podium.cli.explain",
    "agents": "podium.cli.fleet",
    "who": "podium.cli.fleet",
    "stats": "podium.cli.fleet",
    "agent": "podium.cli.agent",
    "sim": "podium.cli.sim",
}

EPILOG = (
    "Exit codes: 0 done · 1 refused, or the task failed · 2 wrong usage · 3 the suite cannot be"
    " reached · 4 no such thing · 130 interrupted. Addresses come from the environment:"
    " PODIUM_TASK_SCHEDULER_ADDRESS and its like. --json speaks to programs."
)


class Lazy(TyperGroup):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns all commands, in the order of help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Returns one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        group: Any = typer.main.get_group(module.app)
        return group.get_command(ctx, cmd_name)


app = typer.Typer(
    cls=Lazy,
    name="podium",
    help="Puts the right AI agent on the right task.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version("podium")
        except metadata.PackageNotFoundError:
            version = "from a checkout"
        typer.echo(f"podium {version}")
        raise typer.Exit


@app.callback()
def podium(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Puts the right AI agent on the right task."""


def main() -> None:
    """Runs the command line."""
    sys.exit(app())


if __name__ == "__main__":
    main()
