"""Root spans of tasks whose clients do not trace: their trace begins with the submit call."""

from __future__ import annotations

from collections.abc import Iterable

from services.kernel import names
from services.kernel.clock import Clock
from services.kernel.instant import Instant
from services.kernel.telemetry import Tracer, parse_traceparent
from services.task_scheduler.core.task import Task


class Roots:
    """Records `submit` spans."""

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock

    def record(self, tasks: Iterable[Task], began: Instant) -> None:
        """Record the root spans of tasks that are durable now."""
        start_ns = began.wall_ms * 1_000_000
        end_ns = start_ns + round((self._clock.now().mono_s - began.mono_s) * 1e9)
        for task in tasks:
            parsed = parse_traceparent(task.traceparent)
            if parsed is None:
                continue
            trace_id, span_id = parsed
            attributes = (
                (names.attribute_task_id, task.task_id),
                (names.attribute_task_type, task.task_type),
            )
            self._tracer.record(
                trace_id, span_id, 0, names.span_submit, start_ns, end_ns, attributes
            )
