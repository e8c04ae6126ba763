"""What AgentRegistry does by itself, over and over.

The rounds of heartbeats, connections and load that are asked for every 30 s are done here every
second by increments: who has fallen silent, whose breaker may try again, who is gone for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from services.agent_registry.ports import Desk, Replica
from services.kernel.clock import Clock
from services.kernel.errors import PodiumError

log = logging.getLogger("podium.agent_registry.loops")

tick_s = 1.0
sweep_s = 30.0
retry_s = 0.5


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


async def keep_agents(replica: Replica, clock: Clock) -> None:
    """Save what has changed, once a second; a store that is away costs memory, never service."""

    async def save() -> None:
        await clock.sleep(tick_s)
        await replica.save()

    await _persistently("Agents cannot be kept", save, clock, lambda: None)


async def tell_replicas(replica: Replica, clock: Clock) -> None:
    """Tell other replicas at once what they must learn."""
    await _persistently("Other replicas cannot be told", replica.publish, clock, lambda: None)


async def follow_replicas(replica: Replica, clock: Clock) -> None:
    """Take over what other replicas tell; while that cannot be read, their agents are excused."""
    await _persistently("Other replicas are not heard", replica.follow, clock, replica.excuse)


async def _persistently(
    what: str,
    step: Callable[[], Awaitable[None]],
    clock: Clock,
    on_failure: Callable[[], None],
) -> None:
    failing = False
    task = asyncio.current_task()
    while task is None or not task.cancelling():
        # A step may return though it was cancelled: the client of Redis sends through
        # `asyncio.wait_for`, which on Python 3.11 keeps a cancel to itself when it comes as the
        # bytes go out. Whoever ends this loop would wait for it for ever.
        try:
            await step()
        except PodiumError as error:
            if not failing:
                log.warning("%s, trying again: %s", what, error.message)
            failing = True
            on_failure()
            await clock.sleep(retry_s)
        else:
            failing = False
