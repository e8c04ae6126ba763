"""The spans of what services do for a task, read off its events.

The log has when a task was queued, granted, sent, accepted and ended, who was chosen and why, for
every task and durable. So no service records spans of it: a trace is a view of the log, joined with
the spans that clients and agents export. What a service leaves is called a leg.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1.event_pb2 import Event
from services.analytics.core.trace import Span
from services.kernel import names
from services.kernel.spans import Tracer, leg_id

tasks_len_max = 500_000
"""Tasks that are followed at a time; of one beyond these no leg is told that began before."""

TYPES = (
    Event.TYPE_QUEUED,
    Event.TYPE_ASSIGNED,
    Event.TYPE_STARTED,
    Event.TYPE_COMPLETED,
    Event.TYPE_FAILED,
    Event.TYPE_CANCELED,
    Event.TYPE_EXPIRED,
    Event.TYPE_REJECTED,
)
"""The events that legs are read off."""

SERVICES = ("task_scheduler", "routing")
"""The services whose legs are told."""
_SCHEDULER, _ROUTING = SERVICES


@dataclass(slots=True)
class _Times:
    """What was heard of a task so far, in ns since 1970; 0 = nothing."""

    queued_ns: int = 0
    assigned_ns: int = 0
    """When the attempt was sent to its agent."""


class Legs:
    """Follows tasks by their events, in order."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Times] = {}
        self._of: dict[int, Callable[[Event, _Times, int], list[Span]]] = {
            Event.TYPE_QUEUED: _queued,
            Event.TYPE_ASSIGNED: _assigned,
            Event.TYPE_STARTED: _started,
        }

    def take(self, event: Event) -> list[Span]:
        """Return the legs that ended with an event."""
        # Of a task without a trace there is nothing to tell; the scheduler gives one to each.
        if event.type not in TYPES or len(event.traceparent) < 55:
            return []
        at_ns = _time_ns(event.event_time)
        ended = self._of.get(event.type)
        if ended is None:
            return _completed(event, self._tasks.pop(event.task_id, _Times()), at_ns)
        times = self._tasks.get(event.task_id)
        if times is None:
            if len(self._tasks) >= tasks_len_max:
                del self._tasks[next(iter(self._tasks))]
            times = self._tasks[event.task_id] = _Times()
        return ended(event, times, at_ns)


class Collected:
    """Records legs for a collector of somebody else.

    Args:
        tracers: Take the legs of each service.
        since_ms: What happened before was told already, or never will be.
    """

    def __init__(self, tracers: dict[str, Tracer], since_ms: int) -> None:
        self._tracers = tracers
        self._since_ns = since_ms * 1_000_000
        self._legs = Legs()

    def take(self, event: Event) -> None:
        """Record the legs that ended with an event."""
        for leg in self._legs.take(event):
            end_ns = leg.start_ns + leg.duration_ns
            if end_ns >= self._since_ns:
                self._tracers[leg.service].record(
                    int(leg.trace_id, 16),
                    int(leg.span_id, 16),
                    int(leg.parent_span_id, 16),
                    leg.name,
                    leg.start_ns,
                    end_ns,
                    tuple(leg.attributes.items()),
                    leg.error,
                )


def _queued(event: Event, times: _Times, at_ns: int) -> list[Span]:
    times.queued_ns, times.assigned_ns = at_ns, 0
    return []


def _assigned(event: Event, times: _Times, at_ns: int) -> list[Span]:
    if not times.queued_ns:
        return []
    return [_leg(event, _SCHEDULER, names.span_queue, times.queued_ns, at_ns)]


def _started(event: Event, times: _Times, at_ns: int) -> list[Span]:
    decision = event.started.decision
    if not decision.HasField("assign_time"):
        return []
    times.assigned_ns = sent_ns = _time_ns(decision.assign_time)
    accepted_ns = sent_ns + _duration_ns(decision.accept_duration)
    agent = {names.attribute_agent_id: event.agent_id}
    why = {
        "decision.policy": decision.policy,
        "decision.probability": f"{decision.probability:g}",
        "decision.eligible": str(decision.eligible_count),
        "decision.candidates": ",".join(decision.candidate_agent_ids),
    }
    begun_ns = sent_ns - _duration_ns(decision.route_duration)
    route = _leg(event, _ROUTING, names.span_route, begun_ns, sent_ns, agent | why)
    assign = _leg(event, _ROUTING, names.span_assign, sent_ns, accepted_ns, agent)
    return [route, assign._replace(parent_span_id=route.span_id)]


def _completed(event: Event, times: _Times, at_ns: int) -> list[Span]:
    ended = event.completed if event.HasField("completed") else event.failed
    begun_ns = at_ns
    if times.assigned_ns and ended.HasField("run_duration"):
        # The router counts the run from when it sent the task until it had the outcome.
        begun_ns = times.assigned_ns + _duration_ns(ended.run_duration)
    outcome = Event.Type.Name(event.type).removeprefix("TYPE_").lower()
    more = {names.attribute_outcome: outcome}
    error = event.failed.failure.reason if event.type == Event.TYPE_FAILED else ""
    leg = _leg(event, _SCHEDULER, names.span_complete, begun_ns, at_ns, more, error)
    # A task that was revived may end again without a lease.
    return [leg._replace(span_id=leg_id(leg.name, event.task_id, event.seq))]


def _leg(
    event: Event,
    service: str,
    name: str,
    start_ns: int,
    end_ns: int,
    more: dict[str, str] | None = None,
    error: str = "",
) -> Span:
    attributes = {
        names.attribute_task_id: event.task_id,
        names.attribute_task_type: event.task_type,
    }
    if event.attempt:
        attributes[names.attribute_attempt] = str(event.attempt)
    return Span(
        trace_id=event.traceparent[3:35],
        span_id=leg_id(name, event.task_id, event.lease_epoch),
        parent_span_id=event.traceparent[36:52],
        name=name,
        service=service,
        # Two machines may disagree about the time by more than a leg takes.
        start_ns=min(start_ns, end_ns),
        duration_ns=max(0, end_ns - start_ns),
        attributes=attributes | (more or {}),
        error=error,
    )


def _time_ns(time: Timestamp) -> int:
    return time.seconds * 1_000_000_000 + time.nanos


def _duration_ns(duration: Duration) -> int:
    return duration.seconds * 1_000_000_000 + duration.nanos
