"""The event log of TaskScheduler as outcomes to learn from."""

from __future__ import annotations

from collections.abc import AsyncIterable

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from podium.v1.event_pb2 import Event
from podium.v1.task_scheduler_pb2 import WatchEventsRequest, WatchEventsResponse
from podium.v1.task_scheduler_pb2_grpc import TaskSchedulerServiceStub
from services.ml_router.adapters.decisions import DecisionLog
from services.ml_router.core.learner import Learner, Outcome

_TYPES = (
    Event.TYPE_CREATED,
    Event.TYPE_STARTED,
    Event.TYPE_COMPLETED,
    Event.TYPE_ATTEMPT_FAILED,
    Event.TYPE_CANCELED,
    Event.TYPE_EXPIRED,
    Event.TYPE_REJECTED,
)


class EventLog:
    """Opens the log at a scheduler."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = TaskSchedulerServiceStub(channel)

    def open(self, cursor: str) -> AsyncIterable[WatchEventsResponse]:
        """Return the batches after `cursor`."""
        request = WatchEventsRequest(cursor=cursor, types=_TYPES, omit_payloads=True)
        stream: AsyncIterable[WatchEventsResponse] = self._stub.WatchEvents(request)
        return stream


class Reader:
    """Takes batches of events in."""

    def __init__(self, learner: Learner, decisions: DecisionLog) -> None:
        self._learner = learner
        self._decisions = decisions

    def take(self, batch: WatchEventsResponse) -> None:
        """Learn from a batch; events that were taken before are skipped."""
        advance = self._learner.advance
        for event in batch.events:
            if advance(event.seq, event.partition):
                self._take(event)

    def _take(self, event: Event) -> None:
        kind = event.type
        if kind == Event.TYPE_CREATED:
            # Without a hint the field is 0; most tasks have none and cost nothing here.
            if size := event.created.spec.size_hint:
                self._learner.open(event.task_id, size)
        elif kind == Event.TYPE_STARTED:
            self._decisions.started(
                event.task_id,
                event.task_type,
                self._learner.size(event.task_id),
                event.started.decision,
            )
        elif kind == Event.TYPE_COMPLETED:
            completed = event.completed
            run_ms = _ms(completed.run_duration) if completed.HasField("run_duration") else None
            self._ended(event, success=True, run_ms=run_ms)
            self._learner.close(event.task_id)
        elif kind == Event.TYPE_ATTEMPT_FAILED:
            if event.failed.agent_fault:
                self._ended(event, success=False, run_ms=None)
            else:
                self._decisions.dropped(event.task_id)
        else:
            self._decisions.dropped(event.task_id)
            self._learner.close(event.task_id)

    def _ended(self, event: Event, *, success: bool, run_ms: float | None) -> None:
        self._decisions.ended(event.task_id, success)
        if event.agent_id:
            size = self._learner.size(event.task_id)
            self._learner.learn(Outcome(event.task_type, event.agent_id, success, run_ms, size))


def _ms(duration: Duration) -> float:
    return max(0.0, duration.seconds * 1e3 + duration.nanos / 1e6)
