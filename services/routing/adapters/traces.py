"""The spans of an assignment: `route` until an agent is chosen, `assign` until it has the task."""

from __future__ import annotations

from typing import Any

from services.kernel import names
from services.kernel.instant import Instant
from services.kernel.telemetry import (
    Tracer,
    format_traceparent,
    new_span_id,
    parse_traceparent,
)
from services.routing.core.assignment import Lease


class Traces:
    """Records the spans of leases.

    Span times come from the monotonic clock, put on the wall clock once at the start: differences
    inside a task are then exact to the microsecond, whatever the wall clock does.
    """

    def __init__(self, tracer: Tracer, now: Instant) -> None:
        self._record = tracer.record
        self._offset_ns = now.wall_ms * 1_000_000 - round(now.mono_s * 1e9)

    def granted(self, lease: Lease, traceparent: str) -> None:
        """Note the trace a task belongs to."""
        lease.trace = parse_traceparent(traceparent) if traceparent else None

    def offered(self, lease: Lease) -> None:
        """Record how the agent was chosen; what follows hangs on the span of the offer."""
        trace: Any = lease.trace
        if trace is None:
            return
        trace_id, parent_id = trace[:2]
        decision = lease.decision
        assert decision is not None
        route_id = new_span_id()
        assign_id = new_span_id()
        lease.trace = (trace_id, parent_id, route_id, assign_id)
        lease.traceparent = format_traceparent(trace_id, assign_id)
        self._record(
            trace_id,
            route_id,
            parent_id,
            names.span_route,
            self._ns(lease.granted_s),
            self._ns(lease.offered_s),
            (
                (names.attribute_task_id, lease.task_id),
                (names.attribute_task_type, lease.task_type),
                (names.attribute_agent_id, decision.agent_id),
                ("decision.policy", decision.policy),
                ("decision.probability", decision.probability),
                ("decision.eligible", decision.eligible_count),
                ("decision.candidates", ",".join(decision.candidates)),
            ),
        )

    def assigned(self, lease: Lease, error: str = "") -> None:
        """Record that the agent took an offered task, or why it did not."""
        trace: Any = lease.trace
        if trace is None or len(trace) < 4:
            return
        trace_id, _, route_id, assign_id = trace
        lease.trace = None
        self._record(
            trace_id,
            assign_id,
            route_id,
            names.span_assign,
            self._ns(lease.offered_s),
            self._ns(lease.acked_s),
            (
                (names.attribute_task_id, lease.task_id),
                (names.attribute_task_type, lease.task_type),
                (names.attribute_agent_id, lease.agent_id),
                (names.attribute_attempt, lease.attempt),
            ),
            error,
        )

    def _ns(self, mono_s: float) -> int:
        return round(mono_s * 1e9) + self._offset_ns
