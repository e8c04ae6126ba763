"""What a deep backlog costs: the rate of grants at any depth, and the memory of a waiting task.

The tasks are what a client sends (a payload, a request id, a trace), of many types, tenants and
priorities; they take the way through the codec that they take in production, without the disk.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from podium.v1 import task_pb2
from services.kernel.instant import Instant
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.core.event import Created
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.orders import Grant
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.task import Lease
from tests.bench.rows import Row

TYPES, TENANTS, PRIORITIES = 5, 20, 10
DEEP, SHALLOW = 1_000_000, 10_000
GRANTS = 4_000
"""Grants of a round: fewer than wait at the smaller depth."""
ROUNDS = 7
BATCH = 100
PAYLOAD_BYTES = 64


class Queue:
    """A scheduler's core with a backlog."""

    def __init__(self, depth: int) -> None:
        limits = Limits(ended_len_max=1_000)
        self.core = Scheduler(limits, random.Random(1).random)
        self.now = Instant(1_000.0, 1_700_000_000_000)
        self._random = random.Random(2)
        self._codec = ProtoCodec()
        self._number = 0
        self._credit = 0
        self.core.start(self.now)
        self.core.dispatch.open("r", [], self.now)
        self.fill(depth)

    def fill(self, count: int) -> None:
        """Submit tasks, sealed as for the log."""
        for first in range(0, count, BATCH):
            drafts = [Draft(self.created()) for _ in range(min(BATCH, count - first))]
            self.core.admission.submit(drafts, self.now)
            self._commit()

    def grant(self, count: int) -> float:
        """Grant tasks, end them, and return the seconds that the granting took."""
        core = self.core
        self._credit += count
        core.dispatch.credit("r", 1, [f"type-{n}" for n in range(TYPES)], self._credit, 1)
        began = time.perf_counter()
        step = core.take(self.now)
        took_s = time.perf_counter() - began
        granted = [order for _, order in step.orders if isinstance(order, Grant)]
        assert len(granted) == count
        for one in granted:
            held = Lease(one.task.task_id, one.lease_epoch)
            core.outcomes.started("r", held, "a", b"", self.now)
            core.outcomes.completed("r", held, "a", b"ok", None, None, self.now)
        self._commit()
        core.book.evict()
        return took_s

    def created(self) -> Created:
        """Return the next task."""
        draw = self._random
        self._number += 1
        spec = task_pb2.TaskSpec(
            type=f"type-{draw.randrange(TYPES)}",
            tenant=f"tenant-{draw.randrange(TENANTS)}",
            priority=draw.randrange(PRIORITIES),
            payload=task_pb2.Payload(
                content_type="application/json", data=draw.randbytes(PAYLOAD_BYTES)
            ),
            request_id=f"podium-retry:{draw.getrandbits(96):024x}-{self._number:x}",
            traceparent=f"00-{draw.getrandbits(128):032x}-{draw.getrandbits(64):016x}-01",
        )
        spec.required_capabilities.append(spec.type)
        return self._codec.created(spec, principal="bench", submitter_id="bench")

    def _commit(self) -> None:
        for recorded in self.core.take(self.now).events:
            self._codec.seal(*recorded)


def grants(scale: float) -> Sequence[Row]:
    """Compare the rate of grants at both depths, round by round in turn."""
    deep_len = int(DEEP * scale)
    deep, shallow = Queue(deep_len), Queue(SHALLOW)
    gc.collect()
    gc.freeze()
    rates: dict[Queue, list[float]] = {deep: [], shallow: []}
    for _ in range(ROUNDS):
        for queue, found in rates.items():
            found.append(GRANTS / queue.grant(GRANTS))
            queue.fill(GRANTS)
    gc.unfreeze()
    by_round = [a / b for a, b in zip(rates[deep], rates[shallow], strict=True)]
    return [
        Row(f"grants at a backlog of {SHALLOW:,}", statistics.median(rates[shallow]), "/s"),
        Row(f"grants at a backlog of {deep_len:,}", statistics.median(rates[deep]), "/s"),
        Row(
            "ratio",
            statistics.median(by_round),
            least=0.8,
            note=f"median of {ROUNDS} rounds of {GRANTS:,}; {TYPES * TENANTS * PRIORITIES:,} lanes",
        ),
    ]


def memory(scale: float) -> Sequence[Row]:
    """Measure the memory of a backlog in a process of its own."""
    count = int(DEEP * scale)
    command = [sys.executable, "-m", "tests.bench.backlog", str(count)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [
        Row(
            "memory of a queued task",
            grown / count / 1024,
            "KB",
            most=1.5,
            note=f"{count:,} of them, payload of {PAYLOAD_BYTES} B, with its request id",
        )
    ]


def resident_bytes() -> int:
    """Return what this process has in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    queue = Queue(0)
    before = resident_bytes()
    queue.fill(int(sys.argv[1]))
    print(resident_bytes() - before)
