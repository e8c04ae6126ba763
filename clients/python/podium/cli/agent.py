"""`podium agent run`: hosts the agents that a module defines."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.logging import RichHandler

from podium.cli.output import errors, fail, wrong_usage
from podium.sdk.errors import PodiumError
from podium.sdk.reload import WrongTarget, run_agents, run_reloading
from podium.sdk.settings import Settings

app = typer.Typer()
agent_app = typer.Typer(help="Run agents.", no_args_is_help=True)
app.add_typer(agent_app, name="agent")


@agent_app.callback()
def agent() -> None:
    """Run agents."""


@agent_app.command("run")
def run_agent(
    targets: Annotated[
        list[str], typer.Argument(help="MODULE:AGENT, for example examples.hello:agent.")
    ],
    grace: Annotated[
        float, typer.Option(help="Seconds that running tasks get when it is stopped.")
    ] = 20.0,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Load the module again when its files change, for writing."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run agents until Ctrl-C or SIGTERM; all share one stream."""
    level = logging.DEBUG if verbose else logging.INFO
    if errors.is_terminal:
        handler = RichHandler(console=errors, show_path=False, markup=False)
        logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    else:  # one line each, for whatever collects them
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    sys.path.insert(0, "")
    run = run_reloading if reload else run_agents
    try:
        run(targets, settings=Settings.from_environment(), grace_s=grace)
    except WrongTarget as error:
        wrong_usage(str(error))
    except PodiumError as error:
        fail(error)
