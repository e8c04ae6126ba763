"""The open loop charges a stall to every task that it delays."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from podium.sdk.client import Client
from podium.sdk.errors import ResourceExhausted
from podium.v1 import task_pb2
from tests.bench.client import OpenLoop, Samples

STALL_S = 0.2


class Outcome:
    def payload(self) -> task_pb2.Payload:
        return task_pb2.Payload(data=str(time.time_ns()).encode())


class Handle:
    def when_ended(self, callback: Any) -> None:
        callback(Outcome())


class Stalling:
    """Takes tasks at once, but for one that holds everything up; refuses every fourth."""

    def __init__(self) -> None:
        self.taken = 0

    def submit_soon(self, spec: task_pb2.TaskSpec) -> asyncio.Future[Any]:
        self.taken += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.taken == 10:
            time.sleep(STALL_S)
        if self.taken % 4 == 0:
            refusal = ResourceExhausted("BACKLOG_FULL", "full", retry_after_s=0.05)
            future.set_exception(refusal)
        else:
            future.set_result(Handle())
        return future


async def test_a_task_counts_from_when_it_was_due_and_none_is_left_out() -> None:
    samples, client = Samples(), Stalling()
    loop = OpenLoop(cast(Client, client), lambda number: (samples, None))

    await loop.run(100.0, 0.5)

    assert samples.offered == client.taken == 50
    assert len(samples.end_to_end_ms) + len(samples.held_back_ms) == 50
    # Some twenty tasks were due during the stall: each of them waited for what was left of it.
    late = [took for took in samples.end_to_end_ms + samples.held_back_ms if took > 20]
    assert len(late) >= 10
    assert samples.hints_s == [0.05] * len(samples.held_back_ms)


async def test_tasks_that_come_faster_than_the_loop_turns_are_all_offered() -> None:
    samples, client = Samples(), Stalling()
    loop = OpenLoop(cast(Client, client), lambda number: (samples, None))

    await loop.run(10_000.0, 0.1)

    assert samples.offered == client.taken == 1_000
