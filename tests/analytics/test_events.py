from __future__ import annotations

import pytest

from podium.v1.event_pb2 import Event
from podium.v1.task_scheduler_pb2 import WatchEventsResponse
from services.analytics.adapters.events import Reader
from services.analytics.core.windows import Kind, Latency, Row
from tests.support.eventlog import BEGIN_MS, attempt_failed, completed, event


def total(*events: Event) -> Row:
    reader = Reader()
    for seq, each in enumerate(events, 1):
        each.seq = seq
    reader.take(WatchEventsResponse(events=events))
    (view,) = reader.windows.series[10_000].newest(1, BEGIN_MS)
    return view.total


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("CREATED", Kind.SUBMITTED),
        ("STARTED", Kind.STARTED),
        ("COMPLETED", Kind.COMPLETED),
        ("FAILED", Kind.FAILED),
        ("RETRYING", Kind.RETRIED),
        ("CANCELED", Kind.CANCELED),
        ("EXPIRED", Kind.CANCELED),
    ],
)
def test_each_kind_is_counted_as_what_it_is(kind: str, counted: Kind) -> None:
    assert total(event(kind)).counts[counted] == 1


def test_failed_attempts_are_counted_whoever_is_to_blame() -> None:
    row = total(attempt_failed("a"), attempt_failed("a", agent_fault=False))

    assert row.counts[Kind.ATTEMPT_FAILED] == 2


def test_durations_come_from_the_events() -> None:
    started = event("STARTED", agent_id="a")
    started.started.assignment_latency.FromMilliseconds(40)

    row = total(started, completed("a", run_s=0.5, total_s=0.75))

    assert row.latencies[Latency.ASSIGNMENT].max_s == pytest.approx(0.04)
    assert row.latencies[Latency.RUN].max_s == 0.5
    assert row.latencies[Latency.TOTAL].max_s == 0.75


def test_other_kinds_are_passed_over() -> None:
    reader = Reader()
    reader.take(WatchEventsResponse(events=[event("QUEUED"), Event(type=99)]))  # type: ignore[arg-type]  # a newer kind

    assert reader.windows.revision == 0


def test_another_log_is_counted_anew_and_watchers_notice() -> None:
    reader = Reader()
    first = event("CREATED")
    first.seq = 9
    reader.take(WatchEventsResponse(events=[first]))
    before = reader.windows.revision
    reader.begin_anew()

    assert reader.windows.revision > before
    assert reader.windows.positions == {}
