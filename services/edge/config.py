"""Settings of Edge."""

from __future__ import annotations

from dataclasses import dataclass

from services.edge.core import origins
from services.kernel.config import Common, setting
from services.kernel.parsers import as_address, as_count, as_port, as_replicas, as_seconds


def as_names(text: str) -> tuple[str, ...]:
    """Return the entries of a list separated by commas."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("must be a list separated by commas")
    return names


def as_addresses(text: str) -> tuple[str, ...]:
    """Return `host:port` of one peer or of several, separated by commas."""
    return tuple(dict.fromkeys(as_address(name) for name in as_names(text)))


def as_origins(text: str) -> tuple[str, ...]:
    """Return allowed origins: `self`, `none`, or `scheme://host[:port]`, separated by commas."""
    names = as_names(text)
    for name in names:
        scheme, separator, host = name.partition("://")
        whole = bool(separator) and scheme in ("http", "https") and host and "/" not in host
        if not whole and name not in (origins.same_host, origins.no_origin):
            raise ValueError("must be self, none or origins such as https://podium.example")
    return names


@dataclass(frozen=True)
class Settings(Common):
    """What Edge can be told."""

    port: int = setting("PODIUM_EDGE_PORT", 7700, "HTTP and WebSocket port", parse=as_port)
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
    routing_addresses: tuple[str, ...] = setting(
        "PODIUM_ROUTING_ADDRESS",
        ("127.0.0.1:7703",),
        "host:port of Routing; of several, separated by commas",
        parse=as_addresses,
    )
    origins: tuple[str, ...] = setting(
        "PODIUM_EDGE_ORIGINS",
        (origins.same_host, origins.no_origin),
        "pages that may connect: self (the same host), none (programs that are no browser), or "
        "origins such as https://podium.example; separated by commas",
        parse=as_origins,
        production=(origins.same_host,),
    )
    hosts: tuple[str, ...] = setting(
        "PODIUM_EDGE_HOSTS",
        (),
        "names under which this edge is known, separated by commas; unset: any, but on a loopback "
        "address only localhost, 127.0.0.1 and ::1",
        parse=as_names,
    )
    connections_max: int = setting(
        "PODIUM_EDGE_CONNECTIONS_MAX",
        1_000,
        "connections at once; one more closes the longest idle",
        parse=as_count,
    )
    connections_per_caller_max: int = setting(
        "PODIUM_EDGE_CONNECTIONS_PER_CALLER_MAX",
        1_000,
        "connections at once of one caller: by its token, without one by its IP address",
        parse=as_count,
        production=200,
    )
    handshake_s: float = setting(
        "PODIUM_EDGE_HANDSHAKE_S",
        5.0,
        "seconds a new connection has for its first request",
        parse=as_seconds,
    )
    agents_max: int = setting(
        "PODIUM_EDGE_AGENTS_MAX", 5_000, "agents at once over all connections", parse=as_count
    )
    messages_per_s: int = setting(
        "PODIUM_EDGE_MESSAGES_PER_S",
        500,
        "messages a second from one connection, four times as many at once; more closes it",
        parse=as_count,
    )
    write_deadline_s: float = setting(
        "PODIUM_EDGE_WRITE_DEADLINE_S",
        6.0,
        "seconds a peer may take to read one message before it is cut off",
        parse=as_seconds,
    )
    ping_s: float = setting(
        "PODIUM_EDGE_PING_S",
        30.0,
        "seconds between pings that find dead connections",
        parse=as_seconds,
    )

    @property
    def known_hosts(self) -> frozenset[str]:
        """Names under which this edge is known; empty for any."""
        return frozenset(self.hosts) or origins.names_of(self.host)
