"""`podium agent run`: hosts the agents that a module defines."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Annotated, Any

import typer
from rich.logging import RichHandler

from podium.cli.output import errors, fail, wrong_usage
from podium.sdk.agent import Agent
from podium.sdk.errors import PodiumError
from podium.sdk.host import AgentHost, run_until_signal
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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run agents until Ctrl-C or SIGTERM; all share one stream."""
    level = logging.DEBUG if verbose else logging.INFO
    handler = RichHandler(console=errors, show_path=False, markup=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    sys.path.insert(0, "")
    found = [agent for target in targets for agent in load(target)]
    try:
        host = AgentHost(found, settings=Settings.from_environment(), grace_s=grace)
        run_until_signal(host)
    except ValueError as error:
        wrong_usage(str(error))
    except PodiumError as error:
        fail(error)


def load(target: str) -> list[Agent]:
    """Returns the agents that MODULE:NAME names: one, or a list of them."""
    module_name, sign, name = target.partition(":")
    if not sign:
        wrong_usage(f"{target!r} is not MODULE:AGENT")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        wrong_usage(f"cannot import {module_name}: {error}. Run it from where the module is.")
    found: Any = getattr(module, name, None)
    agents = found if isinstance(found, list) else [found]
    if not agents or not all(isinstance(each, Agent) for each in agents):
        known = [key for key, value in vars(module).items() if isinstance(value, Agent)]
        hint = f"; it has {', '.join(known)}" if known else ""
        wrong_usage(f"{module_name} has no agent called {name!r}{hint}")
    return agents
