"""Runs AgentRegistry: `python -m services.agent_registry`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from podium.v1 import agent_registry_pb2_grpc
from services.agent_registry.adapters.decisions import DecisionFile
from services.agent_registry.adapters.desk import RegistryDesk
from services.agent_registry.adapters.memory import MemoryStore
from services.agent_registry.adapters.replica import StoreReplica
from services.agent_registry.config import Settings
from services.agent_registry.core.agent import Agent
from services.agent_registry.core.registry import Registry
from services.agent_registry.loops import (
    check_agents,
    follow_replicas,
    forget_agents,
    keep_agents,
    tell_replicas,
)
from services.agent_registry.ports import AgentStore
from services.agent_registry.servicer.agents import POLICY, SERVICE_NAME, AgentRegistryServicer
from services.kernel import names, telemetry
from services.kernel.clock import Clock
from services.kernel.errors import FailedPrecondition, PodiumError
from services.kernel.metrics import Metrics
from services.kernel.options import Dial
from services.kernel.serving import Assembled, ServiceSpec, main


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    """Put AgentRegistry together."""
    store, replica_id = store_of(settings, clock)
    registry = Registry(settings.limits(), replica_id)
    desk = RegistryDesk(registry, clock)
    replica = StoreReplica(registry, store, clock, desk.touch)
    desk.listen(replica.note, replica.keep)
    async with telemetry.started("agent_registry", settings) as observed:
        measure(observed.metrics, registry)
        loops = [
            asyncio.create_task(each)
            for each in (
                check_agents(desk, clock),
                forget_agents(desk, clock),
                keep_agents(replica, clock),
                tell_replicas(replica, clock),
                follow_replicas(replica, clock),
            )
        ]
        servicer = AgentRegistryServicer(desk)

        async def drain() -> None:
            desk.close()
            with contextlib.suppress(PodiumError):  # what it knows, others know or will be told
                await replica.save()

        try:
            yield Assembled(
                register=lambda server: (
                    agent_registry_pb2_grpc.add_AgentRegistryServiceServicer_to_server(
                        servicer, server
                    )
                ),
                service_names=(SERVICE_NAME,),
                drain=drain,
                telemetry=observed,
                policy=POLICY,
                loops=loops,
            )
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await store.close()


def store_of(settings: Settings, clock: Clock) -> tuple[AgentStore, str]:
    """Return where agents are kept, and what tells this replica from others that share it.

    Raises:
        FailedPrecondition: EXTRA_MISSING.
    """
    if settings.store == "memory":
        decisions = DecisionFile(settings.data_dir / "agent_registry" / "decisions.jsonl")
        return MemoryStore(clock, decisions=decisions), ""
    try:
        from services.agent_registry.adapters.redis import RedisStore  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as missing:
        raise FailedPrecondition(
            "EXTRA_MISSING",
            f"PODIUM_AGENT_REGISTRY_STORE=redis needs the package {missing.name}: "
            "install Podium with the extra `scale`",
        ) from None
    store = RedisStore(settings.redis_url, suspect_s=settings.limits().suspect_s)
    return store, f"registry-{secrets.token_hex(6)}"


def measure(metrics: Metrics, registry: Registry) -> None:
    """Expose the numbers of the core.

    Of agents that several replicas know, the one that speaks for an agent counts it: the sum over
    all replicas counts each agent once.
    """

    def mine() -> Iterable[Agent]:
        return (each for each in registry.agents.values() if each.home == registry.replica_id)

    def by_status() -> Iterable[tuple[str, float]]:
        counts = Counter(agent.status.name.lower() for agent in mine())
        return [(status, float(count)) for status, count in sorted(counts.items())]

    def by_breaker() -> Iterable[tuple[str, float]]:
        states = Counter(agent.breaker.state.name.lower() for agent in mine())
        return [(state, float(count)) for state, count in sorted(states.items())]

    metrics.read_gauges(names.metric_agents, "Agents by status.", "status", by_status)
    metrics.read_gauges(names.metric_breakers, "Breakers by state.", "state", by_breaker)
    metrics.read_counter(
        names.metric_mass_silences,
        "Times that most agents of a router fell silent at once.",
        lambda: registry.alerts,
    )


SERVICE = ServiceSpec(
    name="agent_registry",
    settings=Settings,
    summary="Knows who is there, what they can do and how healthy they are.",
    assemble=assemble,
)

if __name__ == "__main__":
    sys.exit(main(SERVICE))
