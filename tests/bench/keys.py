"""What rules add to the latency of a grant: from a free place to the next task.

One place is free at a time. Without rules it is a router's credit, with rules two full keys. The
rest is the same: the wire, the journal, the commit that the grant waits for. Under a rate the place
becomes free by the clock: how much later than that does the next grant come?
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop

from podium.v1 import task_pb2, task_scheduler_pb2
from tests.bench.rows import Row
from tests.task_scheduler.serving import Report, lease, spec, wire

ROUNDS = 400
PERIOD_MS = 20
OTHERS = 2_000
"""Tasks that wait under other full keys."""


def measure(scale: float) -> Sequence[Row]:
    """Measure without and with rules."""
    rounds = max(20, int(ROUNDS * scale))
    plain_ms = uvloop.run(_turns(rounds, ()))
    ruled_ms = uvloop.run(_turns(rounds, ("customer", "model")))
    plain, ruled = (statistics.median(found) for found in (plain_ms, ruled_ms))
    late_ms = uvloop.run(_late(rounds // 2))
    return [
        Row("a result to the next grant, no rules, p50", plain, "ms"),
        Row("the same under two rules, p50", ruled, "ms", note=f"{OTHERS:,} tasks held up beside"),
        Row("added by two rules, p50", ruled - plain, "ms", most=5.0),
        Row("added by two rules, p99", _p99(ruled_ms) - _p99(plain_ms), "ms", most=5.0),
        Row("a start that is due by a rate to its grant, p50", statistics.median(late_ms), "ms"),
        Row("the same, p99", _p99(late_ms), "ms"),
    ]


async def _late(rounds: int) -> list[float]:
    """Return how much later than a period grants follow each other under a rate of one."""
    rate = task_pb2.RateLimit(key="api", limit=1)
    rate.period.FromMilliseconds(PERIOD_MS)
    late_ms = []
    with tempfile.TemporaryDirectory() as folder:
        async with wire(Path(folder)) as served, served.router() as router:
            for _ in range(0, rounds + 1, 100):
                await served.submit(*[spec(rate_limits=[rate]) for _ in range(100)])
            await router.say(Report(credit=credit(1_000_000)))
            await router.grant()
            before = time.perf_counter()
            for _ in range(rounds):
                await router.grant()
                now = time.perf_counter()
                late_ms.append((now - before) * 1e3 - PERIOD_MS)
                before = now
    return late_ms


async def _turns(rounds: int, keys: Sequence[str]) -> list[float]:
    took_ms = []
    with tempfile.TemporaryDirectory() as folder:
        async with wire(Path(folder)) as served, served.router() as router:
            if keys:
                # They share one key with those that are measured, and are never first.
                for number in range(OTHERS // 10):
                    others = [keys[0], f"other-{number}"]
                    await served.submit(*[spec(concurrency_keys=others, priority=1)] * 10)
            for _ in range(0, rounds + 1, 100):
                await served.submit(*[spec(concurrency_keys=keys, priority=9) for _ in range(100)])
            total = 1_000_000 if keys else 1
            await router.say(Report(credit=credit(total)))
            grant = await router.grant()
            for _ in range(rounds):
                report = [*ended(grant)]
                if not keys:
                    total += 1
                    report.append(Report(credit=credit(total)))
                began = time.perf_counter()
                await router.say(*report)
                grant = await router.grant()
                took_ms.append((time.perf_counter() - began) * 1e3)
    return took_ms


def credit(total: int) -> task_scheduler_pb2.ClassCredit:
    """Return what the router accepts."""
    return task_scheduler_pb2.ClassCredit(
        class_id=1, capabilities=["work"], total=total, agent_count=1
    )


def ended(grant: task_scheduler_pb2.Grant) -> Iterator[Report]:
    """Return that an agent took a task and completed it."""
    held = lease(grant)
    yield Report(started=task_scheduler_pb2.AttemptStarted(lease=held, agent_id="a1"))
    success = task_pb2.Payload(data=b"ok")
    yield Report(ended=task_scheduler_pb2.AttemptEnded(lease=held, agent_id="a1", success=success))


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
