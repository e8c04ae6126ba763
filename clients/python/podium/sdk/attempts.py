"""How an attempt ends: what a handler returned or raised, as the Result that the router is sent."""

from __future__ import annotations

import logging
from typing import Any

from podium.sdk import payloads
from podium.sdk.context import Context
from podium.sdk.errors import TaskError
from podium.sdk.handlers import Handler
from podium.sdk.partials import gathered, gathered_plainly
from podium.v1 import session_pb2, task_pb2

log = logging.getLogger("podium.sdk.agent")

FAILURE_LEN_MAX = 4_096
LOGGED = "see the log of the agent"
"""The message of what has none of its own."""


async def call(handler: Handler, arguments: tuple[Any, ...], context: Context) -> Any:
    """Calls an async handler and returns the result."""
    if handler.streams:
        return await gathered(handler.function(*arguments), context.partial, handler.check_piece)
    return await handler.function(*arguments)


def call_plainly(handler: Handler, arguments: tuple[Any, ...], context: Context) -> Any:
    """Calls a plain handler, in whichever thread or process, and returns the result.

    Raises:
        BaseException: whatever it raises, except for what would end more than the attempt: no
            future takes a StopIteration, and the others would end whoever waits for it.
    """
    try:
        if handler.streams:
            pieces = handler.function(*arguments)
            return gathered_plainly(pieces, context.partial, handler.check_piece)
        return handler.function(*arguments)
    except (StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise RuntimeError(_message(error)) from error


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
    except payloads.NotFinite as error:
        message = f"the result does not fit: {error}"
        raise TaskError(message, reason="INVALID_RESULT", retryable=False) from None
    except TypeError:
        log.exception("a result is nothing that JSON can hold")
        why = "nothing that JSON can hold"
    except UnicodeEncodeError:
        log.exception("a result is no valid text")
        why = "no valid text"
    message = f"the result is {why}; see the log of the agent"
    raise TaskError(message, reason="INVALID_RESULT", retryable=False)


def failed(context: Context, error: BaseException) -> session_pb2.Result:
    """Returns the Result of a handler that raised."""
    try:
        if not isinstance(error, TaskError):
            log.error("task %s (%s) failed", context.task_id, context.type, exc_info=error)
            error = TaskError(_message(error))
        result = context.result()
        result.failure.CopyFrom(
            task_pb2.Failure(
                reason=error.reason,
                message=payloads.plain(error.message, FAILURE_LEN_MAX),
                retryable=error.retryable,
            )
        )
    except Exception:
        return untold(context)
    return result


def untold(context: Context) -> session_pb2.Result:
    """Returns the Result of an attempt whose own cannot be made; for use in an `except` clause.

    Without any the lease would be renewed for as long as the agent lives.
    """
    log.exception("how task %s (%s) ended cannot be told", context.task_id, context.type)
    task_id, lease_epoch = context.key
    return session_pb2.Result(
        lease=session_pb2.LeaseRef(task_id=task_id, lease_epoch=lease_epoch),
        failure=task_pb2.Failure(
            reason="HANDLER_ERROR",
            message="how the attempt ended cannot be told; see the log of the agent",
            retryable=True,
        ),
    )


def _message(error: BaseException) -> str:
    """Returns what an exception says, which its class and traceback are no part of."""
    if isinstance(error, SystemExit):
        return f"the handler asked its program to exit: {error.code}"
    try:
        return str(error) or LOGGED
    except Exception:
        return LOGGED


def canceled(context: Context) -> session_pb2.Result:
    """Returns the Result of a task that was stopped on request."""
    result = context.result()
    result.canceled.SetInParent()
    return result
