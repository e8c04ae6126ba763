"""Open-loop load: tasks arrive when they are due, whether or not the suite keeps up.

Latency counts from when a task was due, so that a stalled suite does not hide its stall.
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from podium.sdk import specs
from podium.sdk.client import Client
from podium.sdk.errors import PodiumError
from podium.sdk.handle import TaskHandle
from podium.sdk.results import Outcome
from podium.v1 import task_pb2

# Tasks due within one turn are submitted together.
TURN_S = 0.002
SHARES = (0.5, 0.95, 0.99)


def percentiles(values: Sequence[float], shares: Sequence[float] = SHARES) -> list[float]:
    """Returns the values below which these shares lie; zeros when there are none."""
    ordered = sorted(values)
    if not ordered:
        return [0.0] * len(shares)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares]


@dataclass
class Tally:
    """What became of the load so far."""

    submitted_count: int = 0
    accepted_count: int = 0
    refused_count: int = 0
    completed_count: int = 0
    failed_count: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    completed_ids: set[str] = field(default_factory=set)
    # Everything about these tasks lies after it in the log.
    cursor: str = ""

    @property
    def open_count(self) -> int:
        """Tasks that have not ended."""
        return self.submitted_count - self.refused_count - self.completed_count - self.failed_count


class Load:
    """Submits tasks at a rate.

    Args:
        client: whose tasks they are.
        rate: tasks a second.
        types: types, drawn evenly.
        payload_bytes: size of each payload.
        seed: of what is drawn.
        priorities: drawn evenly.
    """

    def __init__(
        self,
        client: Client,
        *,
        rate: float,
        types: Sequence[str],
        payload_bytes: int = 200,
        seed: int = 1,
        priorities: Sequence[int] = (5,),
    ) -> None:
        self.tally = Tally()
        self._client = client
        self._rate = rate
        self._types = list(types)
        self._payload = task_pb2.Payload(
            content_type="application/octet-stream", data=b"x" * payload_bytes
        )
        self._priorities = list(priorities)
        self._draw = random.Random(seed)
        self._drained = asyncio.Event()

    async def run(self, duration_s: float) -> None:
        """Submits for so long; does not wait for the ends."""
        start_s = time.perf_counter()
        sent, total = 0, int(duration_s * self._rate)
        while sent < total:
            due = min(total, int((time.perf_counter() - start_s) * self._rate) + 1)
            for number in range(sent, due):
                self._submit(start_s + number / self._rate)
            sent = due
            await asyncio.sleep(TURN_S)

    async def drained(self, within_s: float) -> bool:
        """Waits until all accepted tasks have ended; False when they have not in time."""
        try:
            async with asyncio.timeout(within_s):
                while self.tally.open_count:
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def _submit(self, due_s: float) -> None:
        draw = self._draw
        spec = specs.build(draw.choice(self._types), self._payload, {})
        spec.priority = draw.choice(self._priorities)
        self.tally.submitted_count += 1
        future = self._client.submit_soon(spec)
        future.add_done_callback(partial(self._accepted, due_s))

    def _accepted(self, due_s: float, future: asyncio.Future[TaskHandle]) -> None:
        tally = self.tally
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            tally.accepted_count += 1
            handle = future.result()
            tally.cursor = tally.cursor or handle.cursor
            handle.when_ended(partial(self._ended, due_s))
            return
        tally.refused_count += 1
        reason = error.reason if isinstance(error, PodiumError) else "FAULT"
        tally.refusals[reason] = tally.refusals.get(reason, 0) + 1
        self._drained.set()

    def _ended(self, due_s: float, outcome: Outcome) -> None:
        tally = self.tally
        if outcome.state == task_pb2.Task.STATE_COMPLETED:
            tally.completed_count += 1
            tally.completed_ids.add(outcome.task_id)
            tally.latencies_s.append(time.perf_counter() - due_s)
        else:
            tally.failed_count += 1
        if not tally.open_count:
            self._drained.set()
