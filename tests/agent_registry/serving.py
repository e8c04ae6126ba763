"""A registry as it runs in production, for those who call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from podium.v1 import agent_pb2, agent_registry_pb2, agent_registry_pb2_grpc
from services.agent_registry.__main__ import SERVICE
from services.agent_registry.config import Settings
from services.kernel.clock import SystemClock
from services.kernel.options import dial
from services.kernel.serving import running
from tests.agent_registry.test_servicer import Router, agent
from tests.support.waiting import eventually

Status = agent_pb2.Agent.Status


class Served(NamedTuple):
    """A registry with a router whose agents are a1 and a2 in zone x, and a3 in zone y."""

    address: str
    stub: Any
    router: Router

    async def status(self, agent_id: str) -> str:
        request = agent_registry_pb2.GetAgentRequest(agent_id=agent_id)
        return Status.Name((await self.stub.GetAgent(request)).agent.status)

    async def told(self, agent_id: str, **wanted: bool) -> None:
        """Waits until the router has last been told this of an agent."""

        def last() -> bool:
            of = [each for each in self.router.directives if each.agent_id == agent_id]
            return bool(of) and all(getattr(of[-1], name) is wanted[name] for name in wanted)

        await eventually(last)


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    with TemporaryDirectory() as folder:
        async with _served(Path(folder)) as made:
            yield made


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[Served]:
    settings = Settings(otlp_endpoint="off", metrics_port_offset=0, data_dir=folder)
    async with running(SERVICE, settings, dial=dial, clock=SystemClock()) as service:
        address = f"127.0.0.1:{service.port}"
        channel = dial(address)
        made = Served(
            address, stub := agent_registry_pb2_grpc.AgentRegistryServiceStub(channel), Router(stub)
        )
        zones = {"a1": "x", "a2": "x", "a3": "y"}
        agents = [agent(name, labels={"zone": zone}) for name, zone in zones.items()]
        await made.router.tell(snapshot=True, opened=agents)

        async def known() -> bool:
            answer = await stub.ListAgents(agent_registry_pb2.ListAgentsRequest())
            return answer.total_size == len(zones)

        await eventually(known)
        try:
            yield made
        finally:
            await made.router.close()
            await channel.close()
