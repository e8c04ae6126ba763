"""Writing to a stream without losing the reason why its peer has ended it.

When a message meets a stream that the peer has just ended, `grpc.aio`'s own `write` ends the call
with INTERNAL and drops the status that is on its way: with its reason and when to come back.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from google.protobuf.message import Message
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no stubs


async def write(call: Any, message: Message) -> None:
    """Write a message to a stream that was called.

    Raises:
        AioRpcError: The peer has ended the stream, for this reason.
        InvalidStateError: The peer has ended the stream in order.
    """
    inner, begun = getattr(call, "_cython_call", None), getattr(call, "_metadata_sent", None)
    if inner is None or begun is None:  # in process, or not as we know it: as it comes, then
        await call.write(message)
        return
    if not begun.is_set():
        await begun.wait()
    if not call.done():
        try:
            await inner.send_serialized_message(message.SerializeToString())
            return
        except cygrpc.InternalError:
            pass  # its status, which tells why, is on its way
    code = await call.code()
    if code is grpc.StatusCode.OK:
        raise asyncio.InvalidStateError("The stream has ended.")
    raise grpc.aio.AioRpcError(
        code,
        await call.initial_metadata(),
        await call.trailing_metadata(),
        details=await call.details(),
    )
