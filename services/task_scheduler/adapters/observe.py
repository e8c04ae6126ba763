"""Metrics from durable events: observation hangs off the log, not off code paths."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress

from services.kernel import names
from services.kernel.clock import Clock
from services.kernel.telemetry import Metrics
from services.task_scheduler.core.event import Completed
from services.task_scheduler.core.requests import RequestIds
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.shares import PRIORITIES
from services.task_scheduler.core.states import TERMINAL_KINDS, Kind, State
from services.task_scheduler.ports import Commit

EVENTS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
COMMIT_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)

LOOK_S = 1.0

Readings = list[tuple[str, float]]


class Observer:
    """Counts what commits hold."""

    def __init__(self, metrics: Metrics) -> None:
        tasks = metrics.counter(names.metric_tasks, "Tasks by what became of them.", ("outcome",))
        counted = (Kind.CREATED, *TERMINAL_KINDS)
        self._counters = {kind: tasks.labels(kind.name.lower()) for kind in counted}
        self._counters[Kind.ATTEMPT_FAILED] = metrics.counter(
            names.metric_task_errors, "Attempts that failed."
        )
        self._latency = metrics.histogram(
            names.metric_end_to_end_latency, "From creation to the result."
        )
        self._commit_s = metrics.histogram(
            names.metric_commit_latency, "Time of a commit.", buckets=COMMIT_BUCKETS_S
        )
        self._commit_events = metrics.histogram(
            names.metric_commit_events, "Events of a commit.", buckets=EVENTS_BUCKETS
        )

    def __call__(self, commit: Commit) -> None:
        """Take in a commit."""
        if not commit.events:
            return
        self._commit_events.observe(len(commit.events))
        self._commit_s.observe(commit.now.mono_s - commit.began.mono_s)
        counts: dict[Kind, int] = {}
        for event, _, _ in commit.events:
            kind, detail = event.kind, event.detail
            counts[kind] = counts.get(kind, 0) + 1
            if isinstance(detail, Completed):
                self._latency.observe(detail.total_us / 1e6)
        for kind, count in counts.items():
            counter = self._counters.get(kind)
            if counter is not None:
                counter.inc(count)


def expose(
    metrics: Metrics,
    clock: Clock,
    cores: Callable[[], Sequence[Scheduler]],
    damage: Callable[[], str] = str,
) -> None:
    """Let the plain numbers of the cores of this process be read as metrics.

    Args:
        metrics: Where they are read.
        clock: The time.
        cores: Returns whose they are: one for each partition that is owned here.
        damage: Returns what is wrong with a log; empty = nothing.
    """
    metrics.read_gauges(
        names.metric_queue_age,
        "How long the oldest waiting task has waited, by priority.",
        "priority",
        Ages(clock, cores).read,
    )
    metrics.read_gauges(
        names.metric_queue_tasks,
        "Tasks in memory by state.",
        "state",
        lambda: [
            (state.name.lower(), sum(core.book.counts[state] for core in cores()))
            for state in State
            if state
        ],
    )
    metrics.read_gauge(
        names.metric_leases, "Live leases.", lambda: sum(len(core.book.leases) for core in cores())
    )
    metrics.read_gauge(
        names.metric_log_damaged,
        "1 when the event log is not what was written.",
        lambda: int(bool(damage())),
    )
    metrics.read_counter(
        names.metric_grants,
        "Grants to routers.",
        lambda: sum(core.dispatch.grants for core in cores()),
    )
    metrics.read_gauge(
        names.metric_dead_bytes,
        "Bytes that dead letters hold.",
        lambda: sum(core.book.dead.size_bytes for core in cores()),
    )
    metrics.read_counter(
        names.metric_dead_dropped,
        "Dead letters forgotten for want of room.",
        lambda: sum(core.book.dead.dropped for core in cores()),
    )
    metrics.read_counter(
        names.metric_request_ids_dropped,
        "Request ids of callers that were forgotten before 24 hours.",
        lambda: sum(core.book.requests.chosen.pushed_out for core in cores()),
    )
    metrics.read_gauges(
        names.metric_request_ids_kept,
        "For how long request ids are remembered now: less than their time when they are too many.",
        "kind",
        lambda: _kept_s([core.book.requests for core in cores()]),
    )
    metrics.read_counter(
        names.metric_fenced,
        "Outcomes under leases that were over.",
        lambda: sum(core.outcomes.fenced for core in cores()),
    )
    metrics.read_counter(
        names.metric_mass_expiries,
        "Times that most leases of a router ran out together and got another time.",
        lambda: sum(core.dispatch.mercy.count for core in cores()),
    )


class Ages:
    """How long tasks wait.

    A scrape comes on a thread of its own, and whoever asks a lane for its oldest task changes it:
    so the event loop is asked to look, and what it does not answer in time is left out.
    """

    def __init__(self, clock: Clock, cores: Callable[[], Sequence[Scheduler]]) -> None:
        self._clock = clock
        self._cores = cores
        self._thread = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):  # without a loop there is but one thread
            self._loop = asyncio.get_running_loop()

    def read(self) -> Readings:
        """Return the age of the oldest task of each priority; 0 where none waits."""
        if self._loop is None or threading.get_ident() == self._thread:
            return self._look()
        answer: Future[Readings] = Future()
        try:
            self._loop.call_soon_threadsafe(lambda: answer.set_result(self._look()))
            return answer.result(LOOK_S)
        except (RuntimeError, TimeoutError):  # it has ended, or is busy with something long
            return []

    def _look(self) -> Readings:
        now_s = self._clock.now().mono_s
        oldest = dict.fromkeys(range(PRIORITIES), 0.0)
        for core in self._cores():
            for priority, (_, age_s) in core.book.queue.ages(now_s).items():
                oldest[priority] = max(oldest[priority], age_s)
        return [(str(priority), age_s) for priority, age_s in oldest.items()]


def _kept_s(partitions: Sequence[RequestIds]) -> list[tuple[str, float]]:
    if not partitions:
        return []
    return [
        ("chosen", min(ids.chosen.kept_ms for ids in partitions) / 1000),
        ("retry", min(ids.retries.kept_ms for ids in partitions) / 1000),
    ]
