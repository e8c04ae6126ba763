"""Runs Routing: `python -m services.routing`."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from podium.v1 import routing_pb2_grpc
from services.kernel import names, telemetry
from services.kernel.clock import Clock
from services.kernel.config import where
from services.kernel.metrics import Metrics
from services.kernel.options import Dial
from services.kernel.serving import Assembled, ServiceSpec, main
from services.routing.adapters.desk import RouterDesk
from services.routing.adapters.dispatch import Dispatch
from services.routing.adapters.facts import Facts
from services.routing.adapters.frames import Frames
from services.routing.adapters.models import ModelLink
from services.routing.adapters.registry import RegistryLink
from services.routing.adapters.reports import Reports
from services.routing.config import Settings
from services.routing.core.router import Router
from services.routing.loops import (
    check_callers,
    hand_over,
    keep_link,
    keep_links,
    keep_time,
    tell_alive,
)
from services.routing.servicer.sessions import POLICY, SERVICE_NAME, RoutingServicer


@asynccontextmanager
async def assemble(settings: Settings, dial: Dial, clock: Clock) -> AsyncIterator[Assembled]:
    """Put Routing together."""
    router_id = f"router-{secrets.token_hex(6)}"
    async with telemetry.started("routing", settings) as observed:
        router = Router(router_id, settings.limits(), np.random.default_rng(secrets.randbits(128)))
        latency = observed.metrics.histogram(
            names.metric_assignment_latency, "From queued to sent to an agent."
        )
        desk = RouterDesk(
            router,
            clock,
            Frames(router_id, router.board.limits),
            latency.observe,
        )
        measure(observed.metrics, desk)
        reports = Reports(router_id, clock)
        dispatch = Dispatch(settings.task_scheduler_address, dial, desk, reports)
        links: dict[str, RegistryLink | ModelLink] = {
            "agent_registry_address": RegistryLink(
                settings.agent_registry_address, dial, desk, Facts(router_id, clock)
            ),
            "ml_router_address": ModelLink(settings.ml_router_address, dial, desk),
        }
        draw = random.Random(os.urandom(16)).random
        endless: list[Coroutine[Any, Any, None]] = [
            keep_time(desk, clock),
            tell_alive(desk.tell_alive, clock),
            keep_links(
                dispatch.links(),
                f"TaskScheduler at {where(settings, 'task_scheduler_address')}",
                clock,
                draw,
            ),
            *(
                keep_link(link, f"{link.peer} at {where(settings, field)}", clock, draw)
                for field, link in links.items()
            ),
        ]
        servicer = RoutingServicer(desk, clock)
        endless.append(check_callers(servicer.check_callers, clock))
        loops = [asyncio.create_task(each) for each in endless]

        def ready() -> str:
            return (
                ""
                if router.board.up
                else "TaskScheduler is not reached: see PODIUM_TASK_SCHEDULER_ADDRESS"
            )

        async def drain() -> None:
            await hand_over(desk, clock, settings.drain_s)

        try:
            yield Assembled(
                register=lambda server: routing_pb2_grpc.add_RoutingServiceServicer_to_server(
                    servicer, server
                ),
                service_names=(SERVICE_NAME,),
                ready=ready,
                drain=drain,
                telemetry=observed,
                policy=POLICY,
                loops=loops,
            )
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await dispatch.close()
            for link in links.values():
                await link.close()


def measure(metrics: Metrics, desk: RouterDesk) -> None:
    """Expose the numbers of the core."""
    router = desk.router
    board, fleet = router.board, router.board.fleet
    metrics.read_gauge(names.metric_sessions, "Agents with a session.", lambda: len(board.sessions))
    metrics.read_gauge(
        names.metric_agent_utilization,
        "Share of all slots that are taken.",
        lambda: fleet.busy_slots / fleet.capacity_slots if fleet.capacity_slots else 0.0,
    )
    metrics.read_gauge(names.metric_leases, "Leases held here.", lambda: len(board.leases))
    metrics.read_counter(names.metric_grants, "Tasks granted.", lambda: router.orders.granted)
    metrics.read_counter(names.metric_decisions, "Agents chosen.", lambda: router.matcher.decided)
    metrics.read_gauges(
        "podium_routing_waiting",
        "Tasks here that no agent has, and outcomes that are not settled.",
        "what",
        lambda: (
            ("task", len(board.waiting)),
            ("outcome", len(board.leases.unsettled)),
        ),
    )
    metrics.read_gauge(
        names.metric_hellos_waiting, "Agents that wait to be let in.", lambda: len(router.admission)
    )
    metrics.read_counter(
        names.metric_hellos_pushed_back,
        "Agents that were asked to come back later, since too many came at once.",
        lambda: router.admission.pushed_back,
    )
    metrics.read_counter(
        "podium_models_rejected_total", "Models refused.", lambda: router.models_rejected
    )
    metrics.read_counter(
        "podium_routing_stalls_total",
        "Times that this process stood still for more than a second.",
        lambda: router.stalls,
    )
    metrics.read_counter(
        "podium_handed_back_total", "Tasks given back.", lambda: router.work.handed_back
    )


SERVICE = ServiceSpec(
    name="routing",
    settings=Settings,
    summary="Holds agent sessions, chooses the agent for each task and passes on outcomes.",
    assemble=assemble,
)

if __name__ == "__main__":
    sys.exit(main(SERVICE))
