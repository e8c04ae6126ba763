"""Settings of AgentRegistry."""

from __future__ import annotations

from dataclasses import dataclass

from services.agent_registry.core.breaker import cool_s_first
from services.agent_registry.core.lease import Limits
from services.kernel.config import Common, setting
from services.kernel.parsers import as_choice, as_count, as_port, as_seconds


def as_redis_url(text: str) -> str:
    """Return the address of a Redis."""
    scheme, found, rest = text.partition("://")
    if not found or scheme not in ("redis", "rediss", "redis+sentinel") or not rest:
        raise ValueError(
            "must be redis://host:port/database, rediss://... or "
            "redis+sentinel://host:port,host:port/name/database"
        )
    if scheme == "redis+sentinel":
        hosts, _, name = rest.rpartition("@")[2].partition("/")
        ports = [each.rpartition(":")[2] for each in hosts.split(",")]
        if not all(map(str.isdecimal, ports)) or not name.partition("/")[0]:
            raise ValueError("must be redis+sentinel://host:port,host:port/name/database")
    return text


@dataclass(frozen=True)
class Settings(Common):
    """What AgentRegistry can be told."""

    port: int = setting("PODIUM_AGENT_REGISTRY_PORT", 7702, "gRPC port", parse=as_port)
    store: str = setting(
        "PODIUM_AGENT_REGISTRY_STORE",
        "memory",
        "memory: one registry, rebuilt from the sessions, which keeps what operators decide in the "
        "data directory; redis: several share what they know",
        parse=as_choice("memory", "redis"),
    )
    redis_url: str = setting(
        "PODIUM_REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "the Redis of PODIUM_AGENT_REGISTRY_STORE=redis: redis://, rediss:// or "
        "redis+sentinel://host:port,host:port/name/database",
        parse=as_redis_url,
    )
    heartbeat_s: float = setting(
        "PODIUM_HEARTBEAT_S",
        15.0,
        "seconds between heartbeats of an agent; after two without one it gets no new work",
        parse=as_seconds,
        production=30.0,
    )
    grace_s: float = setting(
        "PODIUM_AGENT_GRACE_S",
        60.0,
        "seconds without a sign of an agent after which it is offline",
        parse=as_seconds,
    )
    breaker_open_s: float = setting(
        "PODIUM_BREAKER_OPEN_S",
        cool_s_first,
        "seconds without work for an agent that fails, before it is tried with one task; doubled "
        "up to 5 minutes each time it fails that one",
        parse=as_seconds,
    )
    agents_max: int = setting(
        "PODIUM_AGENT_REGISTRY_AGENTS_MAX",
        100_000,
        "agents to know at once; those offline the longest make room",
        parse=as_count,
    )

    def limits(self) -> Limits:
        """Return the times and bounds of the registry."""
        # Doubt must come before the end, also where two heartbeats take the whole grace.
        suspect_s = min(2 * self.heartbeat_s + 1.0, 0.75 * self.grace_s)
        return Limits(
            grace_s=self.grace_s,
            suspect_s=suspect_s,
            breaker_open_s=self.breaker_open_s,
            agents_max=self.agents_max,
        )
