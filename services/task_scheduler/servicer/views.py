"""Tasks of the core as messages."""

from __future__ import annotations

from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import decision_pb2, task_pb2, task_scheduler_pb2
from services.task_scheduler.core.catalog import unschedulable
from services.task_scheduler.core.event import Failure, Usage
from services.task_scheduler.core.task import Attempt, Task


def task_message(task: Task, *, payloads: bool) -> task_pb2.Task:
    """Return a task; without payload, result and question unless `payloads`."""
    message = task_pb2.Task(
        task_id=task.task_id,
        state=state_message(task.shown_state),
        attempt_count=task.attempt,
        agent_id=task.agent_id,
        lease_epoch=task.lease_epoch,
        progress_fraction=task.fraction,
        progress_message=task.message,
        unschedulable_reason=unschedulable(task),
        last_seq=task.last_seq,
        question_epoch=task.question_epoch,
    )
    message.spec.MergeFromString(task.head)
    message.spec.traceparent = task.traceparent
    message.spec.request_id = task.request_id
    _origin(message, task)
    if payloads:
        message.spec.payload.MergeFromString(task.payload)
        if task.result:
            message.result.MergeFromString(task.result)
        if task.input_request:
            message.input_request.MergeFromString(task.input_request)
    _time(message.create_time, task.created_ms)
    _optional_time(message, "start_time", task.start_ms)
    _optional_time(message, "end_time", task.end_ms)
    _optional_time(message, "next_time", task.next_ms)
    if task.failure is not None:
        _failure(message.failure, task.failure)
    usage = task.total_usage
    if usage is not None:
        _usage(message.usage, usage)
    for attempt in task.attempts:
        _attempt(message.attempts.add(), attempt)
    return message


def _origin(message: task_pb2.Task, task: Task) -> None:
    origin = task.origin
    message.root_task_id = origin.root_task_id or task.task_id
    message.depth = origin.depth
    if origin.schedule_id:
        message.spec.schedule_id = origin.schedule_id
        _time(message.spec.schedule_time, origin.schedule_ms)


def state_message(shown_state: int) -> task_pb2.Task.State:
    """Return a state as shown; the numbers are the same."""
    return cast("task_pb2.Task.State", int(shown_state))


def decisions(task: Task) -> list[task_scheduler_pb2.AttemptDecision]:
    """Return the decision behind each attempt."""
    return [
        task_scheduler_pb2.AttemptDecision(
            attempt=attempt.number,
            decision=decision_pb2.Decision.FromString(attempt.decision),
        )
        for attempt in task.attempts
    ]


def _attempt(message: task_pb2.Attempt, attempt: Attempt) -> None:
    message.attempt = attempt.number
    message.lease_epoch = attempt.lease_epoch
    message.agent_id = attempt.agent_id
    _time(message.start_time, attempt.start_ms)
    if attempt.end_ms:
        _time(message.end_time, attempt.end_ms)
    if attempt.failure is not None:
        _failure(message.failure, attempt.failure)
    if attempt.usage is not None:
        _usage(message.usage, attempt.usage)


def _failure(message: task_pb2.Failure, failure: Failure) -> None:
    message.reason, message.message, message.retryable = failure


def _usage(message: task_pb2.Usage, usage: Usage) -> None:
    message.input_tokens, message.output_tokens, message.cost = usage


def _time(message: Timestamp, wall_ms: int) -> None:
    message.FromMilliseconds(wall_ms)


def _optional_time(message: task_pb2.Task, name: str, wall_ms: int) -> None:
    if wall_ms:
        _time(getattr(message, name), wall_ms)
