from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from podium.sdk.agent import Agent
from podium.sdk.client import Client
from podium.sdk.host import AgentHost
from podium.sdk.settings import Settings
from services import suite
from tests.support.ports import ports_of
from tests.support.processes import ROOT

SERVICES = ("task_scheduler", "agent_registry", "routing", "analytics")

Hosting = Callable[..., AgentHost]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """Where a suite is that runs for all tests of a module."""
    folder = tmp_path_factory.mktemp("suite")
    path = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
    environ = {"PODIUM_LOG_LEVEL": "warning", "PYTHONPATH": path}
    starting = suite.started(
        data_dir=folder, ports=ports_of(SERVICES), services=SERVICES, environ=environ
    )
    async with starting as running:
        yield Settings.from_environment(running.environ)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def podium(settings: Settings) -> AsyncIterator[Client]:
    """A client of that suite; inline, since this loop does gRPC for the agents too."""
    async with Client(settings, inline=True) as client:
        yield client


@pytest.fixture(scope="module")
def hosting(settings: Settings) -> Hosting:
    """Hosts agents in the test's own process."""

    def hosting(*agents: Agent, grace_s: float = 1.0) -> AgentHost:
        return AgentHost(agents, settings=settings, grace_s=grace_s, inline=True)

    return hosting
