"""Answers to what tasks ask, each to the question that it was meant for."""

from __future__ import annotations

from podium.sdk.calls import Calls
from podium.sdk.errors import PermissionDenied
from podium.sdk.results import get
from podium.v1 import task_pb2, task_scheduler_pb2


async def answer(calls: Calls, task_id: str, given: task_pb2.Payload, question: int) -> None:
    """Answers a question, once, however often the call has to be repeated.

    Args:
        calls: the way to the scheduler.
        task_id: the task.
        given: the answer.
        question: the lease under which it was asked; 0 = what is asked now.

    Raises:
        FailedPrecondition: INPUT_NOT_REQUIRED.
        AlreadyExists: QUESTION_ANSWERED, by another answer.
    """
    request = task_scheduler_pb2.ProvideInputRequest(
        task_id=task_id, input=given, question_epoch=question or await _asked(calls, task_id)
    )
    await calls.unary("task_scheduler", lambda stubs: stubs.scheduler.ProvideInput, request)


async def _asked(calls: Calls, task_id: str) -> int:
    # A repeat that named no question would answer the next one, if the first try got through.
    try:
        return (await get(calls, task_id)).question_epoch
    except PermissionDenied:
        return 0  # who may only submit has to do without
