"""The event log: read as it is kept, and checked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from podium.sdk.calls import Calls, Stubs
from podium.sdk.watch import Stream, Watch
from podium.v1 import event_pb2, task_scheduler_pb2


class Log:
    """What `Client.log` offers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def events(self, cursor: str = "") -> AsyncIterator[event_pb2.Event]:
        """Yields the events of the log, payloads included, up to what is durable at the call.

        Args:
            cursor: after this point; "" = from the first event that is kept.

        Raises:
            InvalidArgument: CURSOR_INVALID.
            OutOfRange: CURSOR_COMPACTED, it lies before what is kept.
        """
        stats = await self._calls.unary(
            "task_scheduler",
            lambda stubs: stubs.scheduler.GetQueueStats,
            task_scheduler_pb2.GetQueueStatsRequest(),
        )
        last_seq = stats.durable_seq

        def open_stream(stubs: Stubs, at: str) -> Stream:
            request = task_scheduler_pb2.WatchEventsRequest(cursor=at)
            return stubs.scheduler.WatchEvents(request, metadata=self._calls.metadata)

        watch = Watch(self._calls, open_stream, cursor, to_end=True)
        try:
            while not watch.at_end:
                for event in await watch.next():
                    # What is appended meanwhile would have no end under load.
                    if event.seq > last_seq:
                        return
                    yield event
        finally:
            with contextlib.suppress(RuntimeError):  # the loop itself is closing
                await watch.close()

    async def verify(self) -> AsyncIterator[task_scheduler_pb2.VerifyLogResponse]:
        """Lets the scheduler follow the log's chain of hashes; yields how far it has come.

        The last one yielded has come to the end.

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
