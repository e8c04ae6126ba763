"""The stream to the scheduler: grants and verdicts in, reports and credits out."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from podium.v1 import task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel.coalesce import Outbox, messages
from services.kernel.options import Dial
from services.routing.adapters.desk import RouterDesk
from services.routing.adapters.reports import Reports
from services.routing.core.assignment import Lease
from services.routing.core.effects import LeaseKey, ToScheduler

# Beyond this the scheduler does not read: the stream is broken off and begun anew.
outbox_len_max = 200_000


class DispatchLink:
    """Holds the stream to the scheduler."""

    peer = "TaskScheduler"

    def __init__(self, address: str, dial: Dial, desk: RouterDesk, reports: Reports) -> None:
        self._channel = dial(address)
        self._desk = desk
        self._reports = reports

    async def close(self) -> None:
        """Give the channel back."""
        await self._channel.close()

    async def serve(self) -> None:
        """Hold the stream until it ends."""
        desk = self._desk
        orders = desk.router.orders
        stub = task_scheduler_pb2_grpc.TaskSchedulerServiceStub(self._channel)
        outbox: Outbox[ToScheduler] = Outbox(queue_len_max=outbox_len_max)
        call: Any = stub.OpenDispatch()
        held = orders.hello()
        writer: asyncio.Task[None] | None = None
        try:
            await call.write(self._reports.hello(held))
            async for response in call:
                for order in response.orders:
                    if order.WhichOneof("order") == "welcome":
                        desk.dispatch = outbox
                        writer = asyncio.create_task(self._write(call, outbox))
                    self._follow(order, held)
                desk.touch()
        finally:
            desk.dispatch = None
            orders.disconnected()
            outbox.close()
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
            call.cancel()

    async def _write(
        self, call: grpc.aio.StreamStreamCall[Any, Any], outbox: Outbox[ToScheduler]
    ) -> None:
        async for batch in outbox.batches():
            for request in messages(batch, self._reports.request):
                await call.write(request)

    def _follow(self, order: task_scheduler_pb2.DispatchOrder, held: tuple[LeaseKey, ...]) -> None:
        router = self._desk.router
        now = self._desk.now()
        kind = order.WhichOneof("order")
        if kind == "grant":
            self._grant(order.grant)
        elif kind == "settled":
            lease = order.settled.lease
            router.orders.settled((lease.task_id, lease.lease_epoch), order.settled.verdict)
        elif kind == "revoke":
            lease = order.revoke.lease
            router.orders.revoke((lease.task_id, lease.lease_epoch), order.revoke.reason, now)
        elif kind == "verdicts":
            router.orders.verdicts(_verdicts(order.verdicts.verdicts), now)
        elif kind == "reclaim":
            router.orders.reclaim(order.reclaim.capabilities, order.reclaim.count, now)
        elif kind == "welcome":
            lease_s = order.welcome.lease_ttl.ToMilliseconds() / 1e3
            router.orders.welcome(held, _verdicts(order.welcome.verdicts), now, lease_s)

    def _grant(self, grant: task_scheduler_pb2.Grant) -> None:
        spec = grant.spec
        timeout_ms = 0
        if spec.HasField("attempt_timeout"):
            timeout_ms = spec.attempt_timeout.ToMilliseconds()
        lease = Lease(
            grant.task_id,
            grant.lease_epoch,
            attempt=grant.attempt,
            task_type=spec.type,
            priority=spec.priority if spec.HasField("priority") else 5,
            size=spec.size_hint or 1.0,
            excluded=tuple(grant.excluded_agent_ids),
            sticky_agent_id=grant.sticky_agent_id,
            timeout_ms=timeout_ms,
            queued_ms=_milliseconds(grant.queue_time),
            size_bytes=_size_bytes(grant),
            body=grant,
        )
        self._desk.traces.granted(lease, spec.traceparent)
        self._desk.router.orders.grant(
            lease,
            grant.class_id,
            spec.required_capabilities or (spec.type,),
            spec.preferred_capabilities,
            self._desk.now(),
        )


def _size_bytes(grant: task_scheduler_pb2.Grant) -> int:
    size_bytes = len(grant.spec.payload.data) + len(grant.checkpoint)
    return size_bytes + len(grant.input.data) if grant.HasField("input") else size_bytes


def _milliseconds(time: Any) -> int:
    seconds: int = time.seconds
    nanos: int = time.nanos
    return seconds * 1000 + nanos // 1_000_000


def _verdicts(verdicts: Any) -> tuple[tuple[str, int, int], ...]:
    return tuple((v.lease.task_id, v.lease.lease_epoch, v.verdict) for v in verdicts)
