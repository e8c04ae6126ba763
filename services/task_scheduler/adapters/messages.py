"""Events and orders as generated messages: rare ones both ways, all events back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from google.protobuf.duration_pb2 import Duration

from podium.v1 import event_pb2, schedule_pb2, session_pb2, task_pb2, task_scheduler_pb2
from services.task_scheduler.core.event import (
    CatchUp,
    Completed,
    Created,
    Detail,
    Failed,
    Failure,
    Firing,
    Input,
    LettersDropped,
    Overlap,
    Plan,
    Progress,
    QueuePause,
    Retrying,
    Revived,
    ScheduleChange,
    Started,
    Usage,
)
from services.task_scheduler.core.orders import Reclaim, Revoke, Verdicts, Welcome


class Specs(Protocol):
    """Reads the task of a CREATED event."""

    def created(
        self,
        spec: task_pb2.TaskSpec,
        *,
        principal: str = "",
        submitter_id: str = "",
        spec_hash: bytes = b"",
        root_task_id: str = "",
        depth: int = 0,
    ) -> Created:
        """Return the facts of a task."""


def redated(head: bytes, deadline_ms: int, not_before_ms: int) -> bytes:
    """Return a task without its payload, with other times instead of its own and its spans.

    Args:
        head: The task.
        deadline_ms: When it expires; 0 = never.
        not_before_ms: When it may begin; 0 = as it says.
    """
    spec = task_pb2.TaskSpec.FromString(head)
    for span in ("deadline_after", "delay"):
        spec.ClearField(span)
    spec.ClearField("deadline")
    if deadline_ms:
        spec.deadline.FromMilliseconds(deadline_ms)
    if not_before_ms:
        spec.not_before.FromMilliseconds(not_before_ms)
    return spec.SerializeToString(deterministic=True)


def usage_bytes(usage: Usage) -> bytes:
    """Return a Usage message."""
    return _usage(usage).SerializeToString()


def rare_detail(detail: Detail) -> tuple[event_pb2.Event, event_pb2.Event]:
    """Return a message with nothing but the detail, and the same without payloads."""
    whole = event_pb2.Event()
    _FILL[type(detail)](whole, detail)
    if not isinstance(detail, Progress | Input | Revived | ScheduleChange):
        return whole, whole
    lean = event_pb2.Event()
    lean.CopyFrom(whole)
    if isinstance(detail, Progress):
        lean.progress.ClearField("checkpoint")
        lean.progress.ClearField("partial")
    elif isinstance(detail, Input):
        lean.input.ClearField("payload")
    elif isinstance(detail, Revived):
        lean.requeue.ClearField("payload")
    elif detail.plan is not None:
        lean.schedule.schedule.spec.ClearField("payload")
    return whole, lean


def detail(message: event_pb2.Event, specs: Specs) -> Detail | None:
    """Return the detail of a message, or None when it has none."""
    which = message.WhichOneof("detail")
    if which is None:
        return None
    if which == "created":
        created = message.created
        return specs.created(
            created.spec,
            principal=created.principal,
            submitter_id=created.submitter_id,
            spec_hash=created.spec_hash,
            root_task_id=created.root_task_id,
            depth=created.depth,
        )
    if which == "schedule":
        return _read_change(message, specs)
    return _READ[which](message)


def _read_started(message: event_pb2.Event) -> Detail:
    started = message.started
    decision = started.decision.SerializeToString() if started.HasField("decision") else b""
    return Started(decision, _us(started.assignment_latency))


def _read_progress(message: event_pb2.Event) -> Detail:
    progress = message.progress
    return Progress(
        progress.fraction,
        progress.message,
        progress.partial.SerializeToString() if progress.HasField("partial") else b"",
        read_usage(progress.usage) if progress.HasField("usage") else None,
        progress.checkpoint,
        progress.report_seq,
    )


def _read_completed(message: event_pb2.Event) -> Detail:
    completed = message.completed
    return Completed(
        completed.result.SerializeToString(),
        read_usage(completed.usage) if completed.HasField("usage") else None,
        _us(completed.run_duration),
        _us(completed.total_duration),
        completed.confidence if completed.HasField("confidence") else None,
        completed.result_hash,
    )


def _read_failed(message: event_pb2.Event) -> Detail:
    failed = message.failed
    failure = failed.failure
    return Failed(
        Failure(failure.reason, failure.message, failure.retryable),
        _us(failed.run_duration) if failed.HasField("run_duration") else -1,
        read_usage(failed.usage) if failed.HasField("usage") else None,
        failed.agent_fault,
        _us(failed.total_duration) if failed.HasField("total_duration") else -1,
    )


def _read_retrying(message: event_pb2.Event) -> Detail:
    retrying = message.retrying
    return Retrying(retrying.retry_time.ToMilliseconds(), tuple(retrying.excluded_agent_ids))


def _read_input(message: event_pb2.Event) -> Detail:
    run = message.input
    run_us = _us(run.run_duration) if run.HasField("run_duration") else -1
    usage = read_usage(run.usage) if run.HasField("usage") else None
    return Input(run.payload.SerializeToString(), run_us, usage)


def _read_revived(message: event_pb2.Event) -> Detail:
    requeue = message.requeue
    payload = requeue.payload.SerializeToString() if requeue.HasField("payload") else None
    return Revived(requeue.deadline.ToMilliseconds(), payload)


def _read_pause(message: event_pb2.Event) -> Detail:
    pause = message.queue_pause
    return QueuePause(pause.tenant, pause.type, pause.reason)


def _read_dropped(message: event_pb2.Event) -> Detail:
    return LettersDropped(message.dropped.through_seq, message.dropped.count)


def _read_change(message: event_pb2.Event, specs: Specs) -> Detail:
    change = message.schedule
    plan = None
    if change.HasField("schedule"):
        task = specs.created(change.schedule.spec, principal=change.principal)
        plan = read_plan(change.schedule, task)
    return ScheduleChange(
        message.tenant,
        change.schedule_id,
        plan,
        change.due_time.ToMilliseconds(),
        Firing(change.firing) if change.firing else None,
        change.missed_count,
        change.principal,
    )


def read_plan(message: schedule_pb2.Schedule, task: Created) -> Plan:
    """Return what a schedule does."""
    return Plan(
        message.schedule_id,
        message.cron,
        message.time_zone,
        Overlap(message.overlap),
        CatchUp(message.catch_up),
        message.catch_up_window.ToMilliseconds(),
        task,
    )


def fill_plan(message: schedule_pb2.Schedule, plan: Plan) -> None:
    """Write what a schedule does, its payload included."""
    message.schedule_id, message.cron, message.time_zone = plan[:3]
    message.overlap = cast("schedule_pb2.Schedule.Overlap", int(plan.overlap))
    message.catch_up = cast("schedule_pb2.Schedule.CatchUp", int(plan.catch_up))
    message.catch_up_window.FromMilliseconds(plan.window_ms)
    message.spec.ParseFromString(plan.task.head)
    message.spec.payload.ParseFromString(plan.task.payload)


_READ: dict[str, Callable[[event_pb2.Event], Detail]] = {
    "started": _read_started,
    "progress": _read_progress,
    "completed": _read_completed,
    "failed": _read_failed,
    "retrying": _read_retrying,
    "input": _read_input,
    "requeue": _read_revived,
    "queue_pause": _read_pause,
    "dropped": _read_dropped,
}


def _fill_progress(message: event_pb2.Event, detail: Progress) -> None:
    progress = message.progress
    progress.fraction = detail.fraction
    progress.message = detail.message
    progress.checkpoint = detail.checkpoint
    progress.report_seq = detail.report_seq
    if detail.usage is not None:
        progress.usage.CopyFrom(_usage(detail.usage))
    if detail.partial:
        progress.partial.ParseFromString(detail.partial)


def _fill_failed(message: event_pb2.Event, detail: Failed) -> None:
    failed = message.failed
    failed.failure.reason, failed.failure.message, failed.failure.retryable = detail.failure
    failed.agent_fault = detail.agent_fault
    if detail.run_us >= 0:
        failed.run_duration.FromMicroseconds(detail.run_us)
    if detail.total_us >= 0:
        failed.total_duration.FromMicroseconds(detail.total_us)
    if detail.usage is not None:
        failed.usage.CopyFrom(_usage(detail.usage))


def _fill_retrying(message: event_pb2.Event, detail: Retrying) -> None:
    message.retrying.retry_time.FromMilliseconds(detail.retry_ms)
    message.retrying.excluded_agent_ids.extend(detail.excluded)


def _fill_input(message: event_pb2.Event, detail: Input) -> None:
    message.input.payload.ParseFromString(detail.payload)
    if detail.run_us >= 0:
        message.input.run_duration.FromMicroseconds(detail.run_us)
    if detail.usage is not None:
        message.input.usage.CopyFrom(_usage(detail.usage))


def _fill_revived(message: event_pb2.Event, detail: Revived) -> None:
    message.requeue.deadline.FromMilliseconds(detail.deadline_ms)
    if detail.payload is not None:
        message.requeue.payload.ParseFromString(detail.payload)


def _fill_pause(message: event_pb2.Event, detail: QueuePause) -> None:
    message.queue_pause.SetInParent()
    pause = message.queue_pause
    pause.tenant, pause.type, pause.reason = detail


def _fill_dropped(message: event_pb2.Event, detail: LettersDropped) -> None:
    message.dropped.through_seq, message.dropped.count = detail


def _fill_change(message: event_pb2.Event, detail: ScheduleChange) -> None:
    change = message.schedule
    change.schedule_id = detail.schedule_id
    change.principal = detail.principal
    change.missed_count = detail.missed
    if detail.plan is not None:
        fill_plan(change.schedule, detail.plan)
    if detail.due_ms:
        change.due_time.FromMilliseconds(detail.due_ms)
    if detail.firing is not None:
        change.firing = cast("event_pb2.ScheduleChange.Firing", int(detail.firing))


_FILL: dict[type, Callable[[event_pb2.Event, Any], None]] = {
    Progress: _fill_progress,
    Failed: _fill_failed,
    Retrying: _fill_retrying,
    Input: _fill_input,
    Revived: _fill_revived,
    QueuePause: _fill_pause,
    LettersDropped: _fill_dropped,
    ScheduleChange: _fill_change,
}


def _usage(usage: Usage) -> task_pb2.Usage:
    return task_pb2.Usage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost=usage.cost
    )


def read_usage(message: task_pb2.Usage) -> Usage:
    """Return the core's usage."""
    return Usage(message.input_tokens, message.output_tokens, message.cost)


def _us(message: Duration) -> int:
    return message.ToMicroseconds()


def rare_order(
    order: Welcome | Revoke | Verdicts | Reclaim,
) -> task_scheduler_pb2.DispatchOrder:
    """Return an order that few tasks have."""
    message = task_scheduler_pb2.DispatchOrder()
    if isinstance(order, Revoke):
        message.revoke.lease.task_id, message.revoke.lease.lease_epoch = order.lease
        message.revoke.reason = order.reason
        return message
    if isinstance(order, Reclaim):
        message.reclaim.capabilities.extend(sorted(order.capabilities))
        message.reclaim.count = order.most
        return message
    if isinstance(order, Welcome):
        message.welcome.lease_ttl.FromMilliseconds(round(order.lease_ttl_s * 1000))
        verdicts = message.welcome.verdicts
    else:
        message.verdicts.agent_id = order.agent_id
        verdicts = message.verdicts.verdicts
    for (task_id, epoch), verdict in order.verdicts:
        lease = session_pb2.LeaseRef(task_id=task_id, lease_epoch=epoch)
        verdicts.append(
            session_pb2.LeaseVerdict(
                lease=lease, verdict=cast("session_pb2.LeaseVerdict.Verdict", int(verdict))
            )
        )
    return message
