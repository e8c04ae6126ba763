from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from services.kernel.clock import ManualClock
from services.kernel.instant import Instant
from services.kernel.telemetry import Telemetry
from services.task_scheduler.adapters.observe import Ages, Observer, expose
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.queue import ReadyQueue
from services.task_scheduler.ports import Commit
from tests.task_scheduler.rig import START, Rig, created
from tests.task_scheduler.serving import in_process, spec


class Observed:
    """A rig whose commits are observed."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.rig = Rig(limits)
        self.telemetry = Telemetry()
        self._observer = Observer(self.telemetry.metrics)
        self.clock = ManualClock(START.mono_s, START.wall_ms)
        expose(self.telemetry.metrics, self.clock, lambda: [self.rig.core])
        self.rig.take = self.commit

    def commit(self):
        rig = self.rig
        step = rig.core.take(rig.now)
        rig.events += [event for event, _, _ in step.events]
        rig.orders += step.orders
        done = Instant(rig.now.mono_s + 0.003, rig.now.wall_ms + 3)
        self._observer(Commit(step.events, (), (), step.orders, (), rig.now, done))
        return step.orders

    def metric(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, labels)


def test_tasks_are_counted_by_what_became_of_them() -> None:
    observed = Observed()
    rig = observed.rig
    rig.complete(rig.lease(rig.running()))
    rig.fail(rig.lease(rig.running()), retryable=False)
    rig.complete(rig.lease(rig.granted()), "a1")
    rig.submit_one("other")

    assert observed.metric("podium_tasks_total", outcome="created") == 4
    assert observed.metric("podium_tasks_total", outcome="completed") == 2
    assert observed.metric("podium_tasks_total", outcome="failed") == 1
    assert observed.metric("podium_task_errors_total") == 1
    assert observed.metric("podium_queue_tasks", state="queued") == 1
    assert observed.metric("podium_grants_total") == 3
    assert observed.metric("podium_leases") == 0
    assert observed.metric("podium_task_end_to_end_latency_seconds_count") == 2
    assert observed.metric("podium_journal_commit_seconds_count") > 0


def test_for_how_long_request_ids_are_remembered_is_told_by_kind() -> None:
    observed = Observed(Limits(request_ids_len_max=1))
    rig = observed.rig
    rig.submit(created(request_id="a"), created(request_id="podium-retry:a"))
    assert observed.metric("podium_request_ids_kept_seconds", kind="chosen") == 86_400

    rig.advance(90.0)
    rig.submit(created(request_id="b"))

    assert observed.metric("podium_request_ids_dropped_total") == 1
    assert observed.metric("podium_request_ids_kept_seconds", kind="chosen") == 90
    assert observed.metric("podium_request_ids_kept_seconds", kind="retry") == 600


async def test_how_long_the_oldest_task_waits_is_told_by_priority() -> None:
    observed = Observed()
    rig = observed.rig

    def age_s(priority: int) -> float | None:
        return observed.metric("podium_queue_age_seconds", priority=str(priority))

    first = rig.submit_one("other", terms=Terms(priority=7))
    rig.advance(20.0)
    rig.submit_one("other", terms=Terms(priority=7))
    rig.submit_one("other", terms=Terms(priority=2))
    await observed.clock.advance(25.0)

    assert [round(age_s(priority) or 0) for priority in (7, 2, 5)] == [25, 5, 0]
    rig.core.control.cancel(first, "", rig.now)
    assert round(age_s(7) or 0) == 5


async def test_a_scrape_has_its_ages_from_the_loop(tmp_path: Path) -> None:
    async with in_process(tmp_path) as served:
        await served.submit(spec("unheard-of"))
        registry = served.assembled.telemetry.registry
        threads: list[int] = []
        ages = ReadyQueue.ages

        def noted(queue: ReadyQueue, now_s: float) -> object:
            threads.append(threading.get_ident())
            return ages(queue, now_s)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ReadyQueue, "ages", noted)
            patch.setattr("services.task_scheduler.adapters.observe.LOOK_S", 30.0)
            text = await asyncio.to_thread(generate_latest, registry)

    assert threads == [threading.get_ident()]
    found = re.search(rb'^podium_queue_age_seconds{priority="5"} (\S+)$', text, re.MULTILINE)
    assert found is not None and float(found[1]) > 0


def test_a_loop_that_has_ended_is_not_waited_for() -> None:
    async def made() -> Ages:
        return Ages(ManualClock(), list)

    ages = asyncio.run(made())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ages.read).result(5.0) == []
