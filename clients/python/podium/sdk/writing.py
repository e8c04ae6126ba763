"""Writing to a stream without losing the reason why its peer has ended it.

When a message meets a stream that the peer has just ended, `grpc.aio`'s own `write` ends the call
with INTERNAL and drops the status that is on its way: of a refusal under load the reason was lost
nine times in ten.
"""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no stubs


async def write(call: Any, message: Message) -> None:
    """Writes a message.

    Raises:
        InvalidStateError: the stream has ended; what reads from it learns why.
        AioRpcError: the stream has ended.
    """
    inner, begun = getattr(call, "_cython_call", None), getattr(call, "_metadata_sent", None)
    if inner is None or begun is None:  # not a call as we know it: as it comes, then
        await call.write(message)
        return
    if not begun.is_set():
        await begun.wait()
    if call.done():
        raise asyncio.InvalidStateError("the stream has ended")
    try:
        await inner.send_serialized_message(message.SerializeToString())
    except cygrpc.InternalError as error:
        raise asyncio.InvalidStateError("the stream has ended") from error
