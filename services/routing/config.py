"""Settings of Routing."""

from __future__ import annotations

from dataclasses import dataclass

from services.kernel.config import Common, setting
from services.kernel.parsers import as_address, as_count, as_port, as_replicas, as_seconds
from services.routing.core.session import Limits


@dataclass(frozen=True)
class Settings(Common):
    """What Routing can be told."""

    port: int = setting("PODIUM_ROUTING_PORT", 7703, "gRPC port", parse=as_port)
    task_scheduler_address: str = setting(
        "PODIUM_TASK_SCHEDULER_ADDRESS",
        "127.0.0.1:7701",
        "host:port of TaskScheduler; several replicas with commas",
        parse=as_replicas,
    )
    agent_registry_address: str = setting(
        "PODIUM_AGENT_REGISTRY_ADDRESS",
        "127.0.0.1:7702",
        "host:port of AgentRegistry",
        parse=as_address,
    )
    ml_router_address: str = setting(
        "PODIUM_ML_ROUTER_ADDRESS", "127.0.0.1:7704", "host:port of MLRouter", parse=as_address
    )
    heartbeat_s: float = setting(
        "PODIUM_HEARTBEAT_S",
        15.0,
        "seconds between heartbeats of an agent; after two without one it gets no new work",
        parse=as_seconds,
        production=30.0,
    )
    detach_grace_s: float = setting(
        "PODIUM_DETACH_GRACE_S",
        1.5,
        "seconds an agent has to come back before its tasks count as lost",
        parse=as_seconds,
    )
    ack_s: float = setting(
        "PODIUM_ACK_TIMEOUT_S",
        5.0,
        "seconds an agent has to take an assignment before it goes elsewhere",
        parse=as_seconds,
    )
    probe_s: float = setting(
        "PODIUM_PROBE_S",
        30.0,
        "seconds in which it is proved again that assignments reach an agent, or it gets none; "
        "after twice as many it is cut off",
        parse=as_seconds,
    )
    hellos_per_s: int = setting(
        "PODIUM_HELLOS_PER_S",
        2_000,
        "agents let in a second when many come at once; the others wait or are asked to come back",
        parse=as_count,
    )
    agents_max: int = setting(
        "PODIUM_ROUTING_AGENTS_MAX", 10_000, "agents with a session at once", parse=as_count
    )

    def limits(self) -> Limits:
        """Return the times and bounds of sessions."""
        return Limits(
            heartbeat_s=self.heartbeat_s,
            ack_s=self.ack_s,
            detach_grace_s=self.detach_grace_s,
            probe_s=self.probe_s,
            hellos_per_s=float(self.hellos_per_s),
            agents_max=self.agents_max,
        )
