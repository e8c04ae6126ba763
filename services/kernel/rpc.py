"""Errors on the wire: the one place where the error tree meets gRPC.

Every handler runs inside a `Guard`: expected errors become a status with exactly one ErrorInfo,
undecodable bytes become INVALID_ARGUMENT, and any other exception becomes INTERNAL with a reference
that finds it in the log. A caller never sees a class name or a traceback.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from services.kernel import limits
from services.kernel.errors import (
    BY_CODE,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    PodiumError,
    Unavailable,
    Unimplemented,
    Violation,
)

domain = "podium"
details_key = "grpc-status-details-bin"
pushback_key = "grpc-retry-pushback-ms"

log = logging.getLogger("podium.kernel.rpc")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = grpc.aio.ServicerContext[Any, Any]
Admit = Callable[[str, Context], None]
"""Lets a call of a method in, or raises; runs in the task of the call, before anything else."""

_MALFORMED = object()


def to_status(error: PodiumError) -> status_pb2.Status:
    """Return the status of `error`, with one ErrorInfo and the details that apply."""
    status = status_pb2.Status(
        code=grpc.StatusCode[error.code].value[0],
        message=error.message[: limits.text_len_max],
    )
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=error.metadata)
    ]
    if error.violations:
        # Cut, since all of it travels in the trailing headers, which have a limit.
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=violation.field[:128], description=violation.description[:256]
            )
            for violation in error.violations[: limits.violations_len_max]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> PodiumError:
    """Return what a peer answered as an error of the tree."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == details_key and isinstance(value, bytes):
            status.ParseFromString(value)
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in status.details:
        if detail.Unpack(info) or detail.Unpack(request):
            continue
        if detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    kind = BY_CODE.get(error.code().name, Internal)
    if not info.reason:
        # Not said by Podium but by the transport, or by something else that listens there.
        said = error.code().name
        if said == "CANCELLED":
            # Not by us, or it would be no error: the peer stopped with the call under way.
            kind = Unavailable
        reason = f"PEER_{said}" if said in BY_CODE else "PEER_FAULT"
        return kind(reason, error.details() or "The peer gave no reason.")
    return kind(
        info.reason,
        status.message,
        metadata=dict(info.metadata),
        violations=[Violation(v.field, v.description) for v in request.field_violations],
        retry_after_s=retry_after_s,
    )


async def abort(context: Context, error: PodiumError) -> NoReturn:
    """End the call with `error`."""
    status = to_status(error)
    trailing: list[tuple[str, str | bytes]] = [(details_key, status.SerializeToString())]
    if error.retry_after_s is not None:
        trailing.append((pushback_key, str(max(1, round(error.retry_after_s * 1_000)))))
    await context.abort(grpc.StatusCode[error.code], status.message, tuple(trailing))
    raise AssertionError("abort returned")


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server, whether it is reached over the wire or in process."""

    def __init__(self, admit: Admit | None = None, *, unary_s_max: float = limits.unary_s_max):
        self._admit = admit
        self._unary_s_max = unary_s_max
        # By method; only methods that exist get in, so the contract bounds it.
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the wrapped handler; None, for an unknown method, stays None."""
        handler = await continuation(handler_call_details)
        return None if handler is None else self.wrap(handler_call_details.method, handler)

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Return `handler` with errors, admission and deadline taken care of."""
        known = self._wrapped.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        deserialize = _checked(handler.request_deserializer, raising=handler.request_streaming)
        wrapped: Any
        if handler.response_streaming:
            wrap_stream = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behavior: Any = handler.stream_stream or handler.unary_stream
            guarded: Any = self._guard_stream(method, behavior)
            wrapped = wrap_stream(guarded, deserialize, handler.response_serializer)
        elif handler.request_streaming:
            guarded = self._guard_unary(method, handler.stream_unary, None)
            wrapped = grpc.stream_unary_rpc_method_handler(
                guarded, deserialize, handler.response_serializer
            )
        else:
            guarded = self._guard_unary(method, handler.unary_unary, self._unary_s_max)
            wrapped = grpc.unary_unary_rpc_method_handler(
                guarded, deserialize, handler.response_serializer
            )
        self._wrapped[method] = (handler, wrapped)
        answer: Handler = wrapped
        return answer

    def _guard_unary(
        self, method: str, behavior: Any, seconds_max: float | None
    ) -> Callable[[Any, Context], Coroutine[Any, Any, Any]]:
        admit = self._admit

        async def unary(request: Any, context: Context) -> Any:
            try:
                if admit is not None:
                    admit(method, context)
                if request is _MALFORMED:
                    raise _malformed()
                if seconds_max is None or context.time_remaining() is not None:
                    return await behavior(request, context)
                return await within(seconds_max, behavior(request, context))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                return await _fail(method, context, error)

        return unary

    def _guard_stream(
        self, method: str, behavior: Any
    ) -> Callable[[Any, Context], Coroutine[Any, Any, None]]:
        admit = self._admit

        async def stream(request: Any, context: Context) -> None:
            try:
                if admit is not None:
                    admit(method, context)
                if request is _MALFORMED:
                    raise _malformed()
                responses = behavior(request, context)
                if inspect.isawaitable(responses):
                    await responses
                    return
                async with aclosing(responses):
                    async for response in responses:
                        await context.write(response)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                await _fail(method, context, error)

        return stream


def _checked(deserialize: Any, *, raising: bool) -> Callable[[bytes], Any] | None:
    """Return a deserializer whose failure reaches the guard instead of gRPC's own handling.

    Inside a stream it may raise, since the handler reads; a unary request is decoded before there
    is a handler, so there a mark stands for it.
    """
    if deserialize is None:
        return None

    def decode(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        # The decoder of protobuf raises more than its DecodeError; none of it may get out.
        except Exception:
            if raising:
                raise _malformed() from None
            return _MALFORMED

    return decode


def _malformed() -> InvalidArgument:
    return InvalidArgument("MALFORMED_REQUEST", "The request cannot be decoded: malformed bytes.")


async def within(seconds: float, answer: Awaitable[Any]) -> Any:
    """Return an answer that takes no longer.

    Raises:
        DeadlineExceeded: NO_DEADLINE, it does.
    """
    try:
        async with asyncio.timeout(seconds) as scope:
            return await answer
    except TimeoutError:
        if not scope.expired():
            raise
        raise DeadlineExceeded(
            "NO_DEADLINE",
            f"The call took longer than {seconds:g} s, the most without a deadline of its own.",
        ) from None


async def _fail(method: str, context: Context, error: Exception) -> NoReturn:
    """End the call in the way `error` deserves."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, grpc.aio.InternalError) or context.cancelled():
        # The caller is gone, and with it whoever could be told.
        raise asyncio.CancelledError
    await abort(context, refusal_of(method, error))


def refusal_of(method: str, error: Exception) -> PodiumError:
    """Return what a caller is told of an error, which is logged when nobody expected it."""
    if isinstance(error, NotImplementedError):
        error = Unimplemented("UNIMPLEMENTED", f"{method} is not offered here.")
    elif isinstance(error, grpc.aio.AioRpcError):
        error = from_rpc_error(error)
    if isinstance(error, PodiumError):
        return error
    reference = secrets.token_hex(6)
    extra = {"method": method, "reference": reference}
    log.error("A call failed unexpectedly.", exc_info=error, extra=extra)
    return Internal(
        "INTERNAL",
        f"internal error (reference {reference})",
        metadata={"reference": reference},
    )
