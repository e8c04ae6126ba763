from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.agent_registry import loops
from services.kernel.clock import SystemClock


class Stubborn:
    """A replica whose step keeps the first cancel to itself, as some clients do on Python 3.11."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = False

    async def step(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.cancelled:
                raise
            self.cancelled = True

    publish = follow = step

    def excuse(self) -> None:
        raise AssertionError("nothing failed")


@pytest.mark.parametrize("loop", [loops.tell_replicas, loops.follow_replicas])
async def test_a_loop_that_is_cancelled_ends_though_its_step_keeps_that_to_itself(
    loop: Any,
) -> None:
    replica = Stubborn()
    running = asyncio.create_task(loop(replica, SystemClock()))
    await replica.began.wait()

    running.cancel()

    done, _ = await asyncio.wait({running}, timeout=5)
    running.cancel()
    assert done
