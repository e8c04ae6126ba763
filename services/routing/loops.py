"""What Routing does by itself, over and over: it keeps time and keeps its links."""

from __future__ import annotations

import logging
from collections.abc import Callable

import grpc.aio

from services.kernel.clock import Clock
from services.kernel.errors import PodiumError
from services.routing.ports import Desk, Link

log = logging.getLogger("podium.routing.loops")

tick_s = 0.1
alive_s = 1.0
backoff_s_min = 0.1
backoff_s_max = 2.0


async def keep_time(desk: Desk, clock: Clock) -> None:
    """Let the core do what is due, ten times a second."""
    while True:
        await clock.sleep(tick_s)
        desk.tick()


async def tell_alive(tell: Callable[[], None], clock: Clock) -> None:
    """Tell the registry every second who was heard of."""
    while True:
        await clock.sleep(alive_s)
        tell()


async def keep_link(link: Link, clock: Clock, draw: Callable[[], float]) -> None:
    """Hold a stream to a peer and open it again for ever, with full jitter.

    Args:
        link: The stream.
        clock: Sleeps between two attempts.
        draw: Draws a number from 0 to 1.
    """
    backoff_s, down = backoff_s_min, False
    while True:
        began_s = clock.now().mono_s
        why = "the stream ended"
        try:
            await link.serve()
        except grpc.aio.AioRpcError as error:
            why = error.details() or error.code().name
        except PodiumError as error:
            why = error.message
        if clock.now().mono_s - began_s > backoff_s_max:
            backoff_s, down = backoff_s_min, False
        if not down:
            log.warning("%s is not reached, trying again: %s", link.peer, why)
            down = True
        await clock.sleep(max(0.02, backoff_s * draw()))
        backoff_s = min(backoff_s_max, backoff_s * 2)
