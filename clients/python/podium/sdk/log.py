"""The event log: read as it is kept, and checked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from podium.sdk.calls import Calls, Stubs
from podium.sdk.errors import Unimplemented
from podium.sdk.watch import Stream, Watch
from podium.v1 import event_pb2, task_scheduler_pb2


class Log:
    """What `Client.log` offers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def events(self, cursor: str = "") -> AsyncIterator[event_pb2.Event]:
        """Yields the events of the log, payloads included, up to what is durable at the call.

        Those of a partition come in order; `event.partition` says which it is.

        Args:
            cursor: after this point; "" = from the first event that is kept.

        Raises:
            InvalidArgument: CURSOR_INVALID.
            OutOfRange: CURSOR_COMPACTED, it lies before what is kept.
        """
        ends = await self._ends()

        def open_stream(stubs: Stubs, at: str) -> Stream:
            request = task_scheduler_pb2.WatchEventsRequest(cursor=at)
            return stubs.scheduler.WatchEvents(request, metadata=self._calls.metadata)

        watch = Watch(self._calls, open_stream, cursor, to_end=True)
        try:
            while ends and not watch.at_end:
                for event in await watch.next():
                    # What is appended meanwhile would have no end under load.
                    end_seq = ends.get(event.partition, 0)
                    if event.seq <= end_seq:
                        yield event
                    if event.seq >= end_seq:
                        ends.pop(event.partition, None)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop itself is closing
                await watch.close()

    async def partitions(self) -> Sequence[task_scheduler_pb2.Partition]:
        """Returns the partitions of the log: who owns each, and its positions."""
        answer = await self._calls.unary(
            "task_scheduler",
            lambda stubs: stubs.scheduler.ListPartitions,
            task_scheduler_pb2.ListPartitionsRequest(positions=True),
        )
        return answer.partitions

    async def _ends(self) -> dict[int, int]:
        """Returns the last event of each partition that is not empty."""
        try:
            partitions = await self.partitions()
        except Unimplemented:
            # An older scheduler, which has but one.
            stats = await self._calls.unary(
                "task_scheduler",
                lambda stubs: stubs.scheduler.GetQueueStats,
                task_scheduler_pb2.GetQueueStatsRequest(),
            )
            return {0: stats.durable_seq} if stats.durable_seq else {}
        return {one.partition: one.durable_seq for one in partitions if one.durable_seq}

    async def verify(self) -> AsyncIterator[task_scheduler_pb2.VerifyLogResponse]:
        """Lets the scheduler follow the log's chain of hashes; yields how far it has come.

        Partition after partition; the last one yielded has come to the end of the last.

        Raises:
            FailedPrecondition: JOURNAL_DAMAGED; the metadata's `seq` says at which event.
        """
        request = task_scheduler_pb2.VerifyLogRequest()
        while True:
            response = await self._calls.unary(
                "task_scheduler", lambda stubs: stubs.scheduler.VerifyLog, request
            )
            yield response
            if not response.next_cursor:
                return
            request.cursor = response.next_cursor
