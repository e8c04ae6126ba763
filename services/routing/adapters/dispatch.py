"""The streams to the scheduler, one a partition: grants, verdicts in; reports, credits out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from podium.v1 import task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel.coalesce import Outbox, messages
from services.kernel.instant import Instant
from services.kernel.options import Dial
from services.kernel.writing import write
from services.routing.adapters.desk import RouterDesk
from services.routing.adapters.reports import Reports
from services.routing.core.assignment import Lease
from services.routing.core.effects import LeaseKey, ToScheduler

# Beyond this the scheduler does not read: the stream is broken off and begun anew.
outbox_len_max = 200_000
channels_max = 128
"""Replicas that come and go have ever new addresses."""
ask_s = 5.0
"""How long an answer about the partitions is waited for."""


class Dispatch:
    """The scheduler's partitions: how many there are, and who owns them.

    Args:
        address: A scheduler, or several; any of them answers for all partitions.
        dial: Gives channels.
        desk: Takes orders and gives reports.
        reports: Builds what is sent.
    """

    def __init__(self, address: str, dial: Dial, desk: RouterDesk, reports: Reports) -> None:
        self._dial = dial
        self._desk = desk
        self._reports = reports
        self._count = 1
        self._news: asyncio.Queue[int] = asyncio.Queue()
        self._news.put_nowait(0)
        self._any = dial(address)
        self._owners: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give the channels back."""
        for channel in (self._any, *self._owners.values()):
            await channel.close()
        if self._closing:
            await asyncio.wait(self._closing)

    async def links(self) -> AsyncIterator[DispatchLink]:
        """Yield a link for each partition as it becomes known; there is always the first."""
        while True:
            partition = await self._news.get()
            yield DispatchLink(self, partition, self._desk, self._reports)

    async def addresses(self) -> list[str]:
        """Return where each partition's owner is; empty where that is not known or is no matter."""
        stub = task_scheduler_pb2_grpc.TaskSchedulerServiceStub(self._any)
        try:
            response = await stub.ListPartitions(
                task_scheduler_pb2.ListPartitionsRequest(), timeout=ask_s
            )
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                # An older scheduler, which has but one.
                return [""]
            raise
        count = len(response.partitions)
        for partition in range(self._count, count):
            self._news.put_nowait(partition)
        self._count = max(self._count, count)
        if count != self._desk.router.board.fleet.partitions:
            self._desk.router.orders.divide(count)
        return [one.owner_address for one in response.partitions]

    def channel(self, address: str) -> grpc.aio.Channel:
        """Return the way to an owner, or to any scheduler when the address is empty."""
        if not address or address.endswith(":0"):
            return self._any
        channel = self._owners.pop(address, None) or self._dial(address)
        # The one used last stands last; the first has ended long since.
        self._owners[address] = channel
        if len(self._owners) > channels_max:
            closing = asyncio.create_task(self._owners.pop(next(iter(self._owners))).close(None))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return channel


class DispatchLink:
    """Holds the stream to the scheduler of one partition."""

    peer = "TaskScheduler"

    def __init__(
        self, dispatch: Dispatch, partition: int, desk: RouterDesk, reports: Reports
    ) -> None:
        self._dispatch = dispatch
        self._partition = partition
        self._desk = desk
        self._reports = reports
        self._direct = True

    async def serve(self) -> None:
        """Hold the stream until it ends."""
        addresses = await self._dispatch.addresses()
        if self._partition >= len(addresses):
            return
        # Where the owner cannot be reached from here, any other scheduler passes the stream on.
        address = addresses[self._partition] if self._direct and len(addresses) > 1 else ""
        self._direct = not address
        await self._hold(self._dispatch.channel(address))

    async def _hold(self, channel: grpc.aio.Channel) -> None:
        desk, partition = self._desk, self._partition
        orders = desk.router.orders
        stub = task_scheduler_pb2_grpc.TaskSchedulerServiceStub(channel)
        outbox: Outbox[ToScheduler] = Outbox(queue_len_max=outbox_len_max)
        call: Any = stub.OpenDispatch()
        held = orders.hello(partition)
        writer: asyncio.Task[None] | None = None
        try:
            await write(call, self._reports.hello(held, partition))
            async for response in call:
                now = desk.now()
                for order in response.orders:
                    if self._follow(order, held, now) == "welcome":
                        self._direct = True
                        desk.connect(partition, outbox)
                        writer = asyncio.create_task(self._write(call, outbox))
                desk.touch()
        finally:
            desk.connect(partition, None)
            orders.disconnected(partition)
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
                await write(call, request)

    def _follow(
        self,
        order: task_scheduler_pb2.DispatchOrder,
        held: tuple[LeaseKey, ...],
        now: Instant,
    ) -> str | None:
        """Follow an order and return its kind."""
        router = self._desk.router
        kind: str | None = order.WhichOneof("order")
        if kind == "grant":
            self._grant(order.grant, now)
        elif kind == "settled":
            settled = order.settled
            lease = settled.lease
            router.orders.settled((lease.task_id, lease.lease_epoch), settled.verdict)
        elif kind == "revoke":
            lease = order.revoke.lease
            router.orders.revoke((lease.task_id, lease.lease_epoch), order.revoke.reason, now)
        elif kind == "verdicts":
            router.orders.verdicts(_verdicts(order.verdicts.verdicts), now)
        elif kind == "reclaim":
            router.orders.reclaim(order.reclaim.capabilities, order.reclaim.count, now)
        elif kind == "welcome":
            lease_s = order.welcome.lease_ttl.ToMilliseconds() / 1e3
            verdicts = _verdicts(order.welcome.verdicts)
            router.orders.welcome(held, verdicts, now, lease_s, self._partition)
        return kind

    def _grant(self, grant: task_scheduler_pb2.Grant, now: Instant) -> None:
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
            partition=self._partition,
        )
        self._desk.router.orders.grant(
            lease,
            grant.class_id,
            spec.required_capabilities or (spec.type,),
            spec.preferred_capabilities,
            now,
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
