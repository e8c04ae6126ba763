"""What AgentRegistry does by itself, over and over.

The rounds of heartbeats, connections and load that are asked for every 30 s are done here every
second by increments: who has fallen silent, whose breaker may try again, who is gone for good.
"""

from __future__ import annotations

import logging

from services.agent_registry.ports import Desk
from services.kernel.clock import Clock
from services.kernel.errors import PodiumError

log = logging.getLogger("podium.agent_registry.loops")

tick_s = 1.0
sweep_s = 30.0


async def check_agents(desk: Desk, clock: Clock) -> None:
    """Look for agents that are due, once a second."""
    alerts = desk.registry.alerts
    while True:
        await clock.sleep(tick_s)
        desk.tick()
        if desk.registry.alerts != alerts:
            alerts = desk.registry.alerts
            log.warning("Most agents of a router fell silent at once: their grace is extended.")


async def forget_agents(desk: Desk, clock: Clock) -> None:
    """Forget agents that are long gone, every 30 s."""
    while True:
        await clock.sleep(sweep_s)
        desk.sweep()


async def keep_agents(desk: Desk, clock: Clock) -> None:
    """Save what has changed, once a second; a store that is away costs memory, never service."""
    failing = False
    while True:
        await clock.sleep(tick_s)
        try:
            await desk.save()
        except PodiumError as error:
            if not failing:
                log.warning("Agents cannot be kept, trying again: %s", error.message)
            failing = True
        else:
            failing = False
