"""Details of events to and from the generated messages: rare ones both ways, all of them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from podium.v1 import event_pb2, task_pb2
from services.task_scheduler.core.event import (
    Completed,
    Created,
    Detail,
    Failed,
    Failure,
    Input,
    Progress,
    Retrying,
    Started,
    Usage,
)


class Specs(Protocol):
    """Reads the task of a CREATED event."""

    def created(
        self,
        spec: task_pb2.TaskSpec,
        *,
        principal: str = "",
        submitter_id: str = "",
        spec_hash: bytes = b"",
    ) -> Created:
        """Return the facts of a task."""


def usage_bytes(usage: Usage) -> bytes:
    """Return a Usage message."""
    return _usage(usage).SerializeToString()


def rare_detail(detail: Detail) -> tuple[event_pb2.Event, event_pb2.Event]:
    """Return a message with nothing but the detail, and the same without payloads."""
    whole = event_pb2.Event()
    if isinstance(detail, Progress):
        whole.progress.fraction = detail.fraction
        whole.progress.message = detail.message
        whole.progress.checkpoint = detail.checkpoint
        whole.progress.report_seq = detail.report_seq
        if detail.usage is not None:
            whole.progress.usage.CopyFrom(_usage(detail.usage))
        lean = event_pb2.Event()
        lean.CopyFrom(whole)
        lean.progress.ClearField("checkpoint")
        if detail.partial:
            whole.progress.partial.ParseFromString(detail.partial)
        return whole, lean
    if isinstance(detail, Failed):
        _fill_failed(whole.failed, detail)
    elif isinstance(detail, Retrying):
        whole.retrying.retry_time.FromMilliseconds(detail.retry_ms)
        whole.retrying.excluded_agent_ids.extend(detail.excluded)
    elif isinstance(detail, Input):
        whole.input.payload.ParseFromString(detail.payload)
        lean = event_pb2.Event()
        lean.input.SetInParent()
        return whole, lean
    return whole, whole


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
        )
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
    return Input(message.input.payload.SerializeToString())


_READ: dict[str, Callable[[event_pb2.Event], Detail]] = {
    "started": _read_started,
    "progress": _read_progress,
    "completed": _read_completed,
    "failed": _read_failed,
    "retrying": _read_retrying,
    "input": _read_input,
}


def _fill_failed(message: event_pb2.TaskFailed, failed: Failed) -> None:
    message.failure.reason, message.failure.message, message.failure.retryable = failed.failure
    message.agent_fault = failed.agent_fault
    if failed.run_us >= 0:
        message.run_duration.FromMicroseconds(failed.run_us)
    if failed.total_us >= 0:
        message.total_duration.FromMicroseconds(failed.total_us)
    if failed.usage is not None:
        message.usage.CopyFrom(_usage(failed.usage))


def _usage(usage: Usage) -> task_pb2.Usage:
    return task_pb2.Usage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost=usage.cost
    )


def read_usage(message: task_pb2.Usage) -> Usage:
    """Return the core's usage."""
    return Usage(message.input_tokens, message.output_tokens, message.cost)


def _us(message: Duration) -> int:
    return message.ToMicroseconds()
