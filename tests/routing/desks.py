"""A desk without a wire: what the servicer and the links share, on a clock that stands still."""

from __future__ import annotations

from typing import Any

import numpy as np

from podium.v1 import routing_pb2
from services.kernel.clock import ManualClock
from services.routing.adapters.desk import RouterDesk
from services.routing.adapters.frames import Frames
from services.routing.adapters.line import StreamLine
from services.routing.core.router import Router
from services.routing.core.session import Limits


def desk(**given: Any) -> tuple[RouterDesk, ManualClock]:
    clock, limits = ManualClock(), Limits(**given)
    router = Router("router-1", limits, np.random.default_rng(7))
    made = RouterDesk(
        router,
        clock,
        Frames("router-1", limits),
        lambda seconds: None,
    )
    return made, clock


async def sent(line: StreamLine) -> list[routing_pb2.OpenSessionResponse]:
    """Returns what a line writes until it ends."""
    responses: list[routing_pb2.OpenSessionResponse] = []

    async def write(response: routing_pb2.OpenSessionResponse) -> None:
        responses.append(response)

    await line.send(write)
    return responses
