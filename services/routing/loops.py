"""What Routing does by itself, over and over: it keeps time and keeps its links."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import grpc.aio

from services.kernel.clock import Clock
from services.kernel.errors import PodiumError
from services.routing.ports import Desk, Link

log = logging.getLogger("podium.routing.loops")

tick_s = 0.1
alive_s = 1.0
check_s = 5.0
backoff_s_min = 0.1
backoff_s_max = 2.0
move_s_max = 3.0
"""Seconds that agents get to open a stream to another router."""
move_share = 0.5
"""The most that may take of the time for the whole drain."""


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


async def check_callers(check: Callable[[], None], clock: Clock) -> None:
    """End every few seconds the streams of those whose tokens are not good any more."""
    while True:
        await clock.sleep(check_s)
        check()


async def keep_link(link: Link, peer: str, clock: Clock, draw: Callable[[], float]) -> None:
    """Hold a stream to a peer and open it again for ever, with full jitter.

    Args:
        link: The stream.
        peer: Where it leads and which setting says so, for people.
        clock: Sleeps between two attempts.
        draw: Draws a number from 0 to 1.
    """
    backoff_s, down = backoff_s_min, False
    task = asyncio.current_task()
    while True:
        began_s = clock.now().mono_s
        why = "the stream ended"
        try:
            await link.serve()
        except grpc.aio.AioRpcError as error:
            why = error.details() or error.code().name
        except PodiumError as error:
            why = error.message
        if task is not None and task.cancelling():
            # A stream that ends in the moment of a cancel may keep it to itself, and whoever ends
            # this loop would wait for it for ever.
            raise asyncio.CancelledError
        if clock.now().mono_s - began_s > backoff_s_max:
            backoff_s, down = backoff_s_min, False
        if not down:
            log.warning("%s is not reached, trying again; does it run there? %s", peer, why)
            down = True
        await clock.sleep(max(0.02, backoff_s * draw()))
        backoff_s = min(backoff_s_max, backoff_s * 2)


async def keep_links(
    links: AsyncIterator[Link], peer: str, clock: Clock, draw: Callable[[], float]
) -> None:
    """Hold streams as they become known; arguments as for `keep_link`."""
    async with asyncio.TaskGroup() as group:
        async for link in links:
            group.create_task(keep_link(link, peer, clock, draw))


async def hand_over(desk: Desk, clock: Clock, drain_s: float) -> None:
    """Ask all agents to move, wait until nothing is left to be moved, then close what is left.

    An agent that does not move loses nothing: it keeps its tasks, and the router it finds next
    claims them. So it gets the time to open another stream, not the time to finish.
    """
    began = clock.now()
    span_s = min(move_s_max, drain_s * move_share)
    desk.router.attendance.drain(began.wall_ms + round(span_s * 1e3), began)
    desk.touch()
    while clock.now().mono_s - began.mono_s < span_s:
        await clock.sleep(tick_s)
        if not desk.router.board.in_motion:
            break
    desk.close_lines()
