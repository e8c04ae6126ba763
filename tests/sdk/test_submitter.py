from __future__ import annotations

import asyncio

from podium.sdk.errors import ResourceExhausted
from podium.sdk.gate import Gate
from podium.sdk.submitter import Pending, _Lane
from podium.v1 import task_pb2


class Lane:
    """A lane whose batches are noted."""

    def __init__(self, full_step_s: float) -> None:
        self.sent: list[int] = []
        self.gate = Gate()
        self._lane: _Lane[str] = _Lane(self._send, 4, self.gate, full_step_s)

    async def add(self, count: int = 1) -> None:
        for _ in range(count):
            future = asyncio.get_running_loop().create_future()
            self._lane.add(Pending(task_pb2.TaskSpec(), future, False, (1, 1), 0, 0))
        for _ in range(5):
            await asyncio.sleep(0)

    def fill(self) -> None:
        """Let the scheduler say that its backlog is full."""
        self.gate.refused(ResourceExhausted("BACKLOG_FULL", "no room", retry_after_s=60.0), 100)

    async def close(self) -> None:
        await self._lane.close()

    async def _send(self, batch: list[Pending[str]]) -> None:
        self.sent.append(len(batch))


async def test_tasks_that_come_one_by_one_leave_at_once() -> None:
    lane = Lane(full_step_s=60.0)

    await lane.add()
    await lane.add()

    assert lane.sent == [1, 1]
    await lane.close()


async def test_while_the_backlog_is_full_calls_leave_in_steps() -> None:
    lane = Lane(full_step_s=60.0)
    await lane.add()
    lane.fill()

    await lane.add()
    await lane.add(2)
    assert lane.sent == [1], "they gather since the call before"
    await lane.close()


async def test_the_first_call_since_long_and_a_full_one_wait_for_no_step() -> None:
    lane = Lane(full_step_s=60.0)
    lane.fill()

    await lane.add(300)
    assert lane.sent == [256]
    await lane.close()

    lane = Lane(full_step_s=0.0)
    lane.fill()
    await lane.add()
    await lane.add()
    assert lane.sent == [1, 1]
    await lane.close()
