"""Results without a stream: when no session can be had, each result is reported by a call."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from podium.sdk.leases import Key
from podium.sdk.wire import dial
from podium.v1 import routing_pb2, routing_pb2_grpc, session_pb2

REPORT_S_MAX = 5.0

# The result is refused for good: repeating it changes nothing.
_FINAL = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
)


async def report_unary(
    address: str,
    metadata: tuple[tuple[str, str], ...],
    results: Sequence[tuple[Key, session_pb2.AgentFrame]],
) -> list[Key]:
    """Reports results one by one and returns the leases that are settled by it."""
    settled: list[Key] = []
    async with dial(address, fresh=True) as channel:
        stub = routing_pb2_grpc.RoutingServiceStub(channel)
        for key, frame in results:
            request = routing_pb2.ReportResultRequest(agent_id=frame.agent_id, result=frame.result)
            try:
                await stub.ReportResult(request, timeout=REPORT_S_MAX, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _FINAL:
                    break  # nobody answers; the rest waits for the next try
            settled.append(key)
    return settled
