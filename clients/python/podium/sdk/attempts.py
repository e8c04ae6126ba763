"""How an attempt ends: what a handler returned or raised, as the Result that the router is sent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from podium.sdk import payloads
from podium.sdk.context import Context
from podium.sdk.errors import TaskError
from podium.sdk.handlers import Handler
from podium.sdk.partials import gathered, gathered_plainly
from podium.v1 import session_pb2, task_pb2

log = logging.getLogger("podium.sdk.agent")

FAILURE_LEN_MAX = 4_096


async def call(handler: Handler, arguments: tuple[Any, ...], context: Context) -> Any:
    """Calls an async handler and returns the result."""
    if handler.streams:
        return await gathered(handler.function(*arguments), context.partial)
    return await handler.function(*arguments)


def call_plainly(
    function: Callable[..., Any], streams: bool, arguments: tuple[Any, ...], context: Context
) -> Any:
    """Calls a plain handler, in whichever thread or process, and returns the result."""
    if streams:
        return gathered_plainly(function(*arguments), context.partial)
    return function(*arguments)


def ended(handler: Handler, context: Context, value: Any) -> session_pb2.Result:
    """Returns the Result of a handler that returned.

    Raises:
        TaskError: what it returned cannot be a result.
    """
    if context.cancel_reason:
        return canceled(context)
    success = _encoded(handler.check(value))
    if len(success.data) > payloads.PAYLOAD_BYTES_MAX:
        size = f"{len(success.data)} bytes of {payloads.PAYLOAD_BYTES_MAX}"
        raise TaskError(f"the result has {size}", reason="RESULT_TOO_LARGE", retryable=False)
    result = context.result()
    result.success.CopyFrom(success)
    return result


def _encoded(value: Any) -> task_pb2.Payload:
    try:
        return payloads.encode(value)
    except TypeError:
        log.exception("a result is nothing that JSON can hold")
        message = "the result is nothing that JSON can hold; see the log of the agent"
        raise TaskError(message, reason="INVALID_RESULT", retryable=False) from None


def failed(context: Context, error: Exception) -> session_pb2.Result:
    """Returns the Result of a handler that raised."""
    if not isinstance(error, TaskError):
        log.error("task %s (%s) failed", context.task_id, context.type, exc_info=error)
        error = TaskError(str(error) or "see the log of the agent")
    result = context.result()
    result.failure.CopyFrom(
        task_pb2.Failure(
            reason=error.reason,
            message=error.message[:FAILURE_LEN_MAX],
            retryable=error.retryable,
        )
    )
    return result


def canceled(context: Context) -> session_pb2.Result:
    """Returns the Result of a task that was stopped on request."""
    result = context.result()
    result.canceled.SetInParent()
    return result
