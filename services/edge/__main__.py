"""Runs Edge: `python -m services.edge`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

import grpc.aio
from aiohttp import web

from services.edge.adapters.binary import ProtoCodec
from services.edge.adapters.doorstep import Doorstep
from services.edge.adapters.identity import door
from services.edge.adapters.pages import Files, application, http_log
from services.edge.adapters.peers import GrpcPeers
from services.edge.adapters.protojson import JsonCodec
from services.edge.adapters.sessions import RoutingSessions
from services.edge.adapters.unreadable import Runner
from services.edge.config import Settings
from services.edge.core.origins import Origins
from services.edge.core.speakers import Lane
from services.edge.loops import keep_attached, sweep
from services.edge.servicer.bridge import Bridge, Limits
from services.kernel import names
from services.kernel.clock import Clock
from services.kernel.metrics import Metrics
from services.kernel.options import Dial
from services.kernel.serving import Assembled, ServiceSpec, main

lanes_per_routing = 2
"""One for all agents, and one for an instance that comes beside another of the same agent."""


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    """Put Edge together."""
    visitors = door(settings, clock)
    named = (
        settings.task_scheduler_address,
        settings.agent_registry_address,
        settings.analytics_address,
    )
    scheduler, registry, analytics = channels = [dial(address) for address in named]
    routings = [dial(address) for address in settings.routing_addresses]
    lanes = [
        RoutingSessions(Lane(address, number), channel)
        for address, channel in zip(settings.routing_addresses, routings, strict=True)
        for number in range(lanes_per_routing)
    ]
    origins = Origins(settings.origins, settings.known_hosts)
    bridge = Bridge(
        (JsonCodec(), ProtoCodec()),
        GrpcPeers(scheduler, registry, analytics),
        lanes,
        origins,
        visitors,
        clock,
        limits(settings),
        version(),
    )
    metrics = measured(bridge)
    doorstep = Doorstep(clock, settings.handshake_s)

    def ready() -> str:
        state = scheduler.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return ""
        return "TaskScheduler is not reached: see PODIUM_TASK_SCHEDULER_ADDRESS"

    app = application(bridge.handle, Files(), metrics.registry, ready, origins, doorstep)
    runner = Runner(
        app, access_log=None, logger=http_log(), shutdown_timeout=1.0, keepalive_timeout=75.0
    )
    await runner.setup()

    def look() -> None:
        bridge.sweep()
        if runner.server is not None:
            doorstep.sweep(runner.server)

    loops = [
        asyncio.create_task(keep_attached(each, bridge.agents.deliver, bridge.agents.lost, clock))
        for each in lanes
    ]
    loops.append(asyncio.create_task(sweep(look, clock)))
    loops.append(asyncio.create_task(bridge.keep_watching(overview=settings.auth == "off")))

    async def listen(host: str, port: int) -> int:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound: int = runner.addresses[0][1]
        return bound

    try:
        yield Assembled(
            register=lambda server: None,
            service_names=(),
            ready=ready,
            drain=bridge.drain,
            loops=loops,
            listen=listen,
        )
    finally:
        await runner.cleanup()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for channel in (*channels, *routings):
            await channel.close()


def limits(settings: Settings) -> Limits:
    """Return what the bridge allows."""
    return Limits(
        connections_max=settings.connections_max,
        agents_max=settings.agents_max,
        messages_per_s=settings.messages_per_s,
        write_deadline_s=settings.write_deadline_s,
        ping_s=settings.ping_s,
        connections_per_caller_max=settings.connections_per_caller_max,
    )


def measured(bridge: Bridge) -> Metrics:
    """Return the metrics of a bridge."""
    metrics, counts = Metrics(), bridge.counts
    metrics.read_gauge(
        names.metric_connections, "Open connections.", lambda: bridge.connection_count
    )
    metrics.read_gauge(
        names.metric_sessions, "Agents connected through the bridge.", lambda: bridge.agent_count
    )
    frames = {"in": lambda: counts.frames_in, "out": lambda: bridge.frames_out}
    for direction, reading in frames.items():
        metrics.read_counter(
            names.metric_frames.replace("_total", f"_{direction}_total"),
            f"Messages {direction}.",
            reading,
        )
    endings = {
        "evicted": lambda: counts.evicted,
        "slow_consumers": lambda: counts.slow_consumers,
        "refused": lambda: counts.refused,
        "opened": lambda: counts.opened,
    }
    for what, reading in endings.items():
        name = names.metric_connections + f"_{what}_total"
        if what == "refused":
            name = names.metric_frames.replace("_total", "_refused_total")
        metrics.read_counter(name, f"Connections or messages {what}.", reading)
    return metrics


def version() -> str:
    """Return the version of the suite."""
    try:
        return metadata.version("podium")
    except metadata.PackageNotFoundError:
        # From an image that holds the checkout and no wheel.
        return "0.1.0"


SERVICE = ServiceSpec(
    name="edge",
    settings=Settings,
    summary="Browsers as clients and as agents over one WebSocket, and the dashboard.",
    assemble=assemble,
)

if __name__ == "__main__":
    sys.exit(main(SERVICE))
