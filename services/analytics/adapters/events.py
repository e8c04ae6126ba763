"""The event log of TaskScheduler as facts to count."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from podium.v1.event_pb2 import Event
from podium.v1.task_scheduler_pb2 import WatchEventsRequest, WatchEventsResponse
from podium.v1.task_scheduler_pb2_grpc import TaskSchedulerServiceStub
from services.analytics.core.windows import Fact, Kind, Latency, Windows

_KINDS = {
    Event.TYPE_CREATED: Kind.SUBMITTED,
    Event.TYPE_STARTED: Kind.STARTED,
    Event.TYPE_COMPLETED: Kind.COMPLETED,
    Event.TYPE_FAILED: Kind.FAILED,
    Event.TYPE_ATTEMPT_FAILED: Kind.ATTEMPT_FAILED,
    Event.TYPE_RETRYING: Kind.RETRIED,
    Event.TYPE_CANCELED: Kind.CANCELED,
    Event.TYPE_EXPIRED: Kind.CANCELED,
}


class EventLog:
    """Opens the log at a scheduler."""

    def __init__(self, channel: grpc.aio.Channel, more: Iterable[int] = ()) -> None:
        """Follow the log at a scheduler.

        Args:
            channel: Reaches it.
            more: Types of events that are wanted beside those that are counted.
        """
        self._stub = TaskSchedulerServiceStub(channel)
        self._types: list[Any] = sorted({*_KINDS, *more})

    def open(self, cursor: str) -> AsyncIterable[WatchEventsResponse]:
        """Return the batches after `cursor`."""
        request = WatchEventsRequest(cursor=cursor, types=self._types, omit_payloads=True)
        stream: AsyncIterable[WatchEventsResponse] = self._stub.WatchEvents(request)
        return stream


class Reader:
    """Takes batches of events in.

    Args:
        collected: Takes every event that is not older than the one before it.
    """

    def __init__(self, collected: Callable[[Event], None] | None = None) -> None:
        self.windows = Windows()
        self._collected = collected

    def take(self, batch: WatchEventsResponse) -> None:
        """Count a batch; events that were counted before are skipped."""
        windows = self.windows
        for event in batch.events:
            if self._collected is not None:
                self._collected(event)
            kind = _KINDS.get(event.type)
            if kind is not None and windows.advance(event.seq, event.partition):
                windows.count(_fact(kind, event))

    def begin_anew(self) -> None:
        """Forget everything: the event log is another one."""
        revision = self.windows.revision
        self.windows = Windows()
        self.windows.revision = revision + 1


def _fact(kind: Kind, event: Event) -> Fact:
    at = event.event_time
    latencies: tuple[tuple[Latency, float], ...] = ()
    if kind is Kind.STARTED:
        latencies = ((Latency.ASSIGNMENT, _seconds(event.started.assignment_latency)),)
    elif kind is Kind.COMPLETED:
        completed = event.completed
        latencies = (
            (Latency.TOTAL, _seconds(completed.total_duration)),
            (Latency.RUN, _seconds(completed.run_duration)),
        )
    time_ms = at.seconds * 1_000 + at.nanos // 1_000_000
    return Fact(kind, time_ms, event.task_type, event.agent_id, latencies)


def _seconds(duration: Duration) -> float:
    return max(0.0, duration.seconds + duration.nanos * 1e-9)
