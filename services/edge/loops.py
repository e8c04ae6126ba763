"""What Edge does again and again: it keeps its stream to Routing, and looks for stalled readers."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from functools import partial

from podium.v1.session_pb2 import RouterFrame
from services.edge.core.speakers import Lane
from services.edge.ports import Sessions
from services.kernel.clock import Clock

log = logging.getLogger("podium.edge.loops")

sweep_s = 1.0
backoff_s_min = 0.1
backoff_s_max = 2.0


async def keep_attached(
    sessions: Sessions,
    deliver: Callable[[Lane, Sequence[RouterFrame]], None],
    lost: Callable[[Lane, str], None],
    clock: Clock,
) -> None:
    """Hold one stream to a Routing for ever, opening the next when it ends."""
    chance = random.Random()
    backoff_s = backoff_s_min
    while True:
        began_s = clock.now().mono_s
        try:
            await sessions.attach(partial(deliver, sessions.lane), partial(lost, sessions.lane))
        # Whatever was wrong with one stream, the next may be right; without one no agent works.
        except Exception:
            log.exception("the stream to Routing failed unexpectedly")
        lived_s = clock.now().mono_s - began_s
        backoff_s = backoff_s_min if lived_s > backoff_s_max else min(backoff_s * 2, backoff_s_max)
        await clock.sleep(chance.uniform(backoff_s_min / 2, backoff_s))


async def sweep(look: Callable[[], None], clock: Clock) -> None:
    """Let the bridge look for connections whose peer does not read."""
    while True:
        await clock.sleep(sweep_s)
        look()
