"""Watches: events in order, each once, over any number of lost connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from podium.sdk.calls import Calls, Patience, Stubs
from podium.sdk.errors import PodiumError, ResourceExhausted, from_rpc_error, is_transient
from podium.v1 import event_pb2, task_scheduler_pb2

Response = task_scheduler_pb2.WatchTasksResponse | task_scheduler_pb2.WatchEventsResponse
# The request differs from watch to watch.
Stream = grpc.aio.UnaryStreamCall[Any, Any]
Open = Callable[[Stubs, str], Stream]
"""Opens the stream of a watch from a cursor on."""


class Watch:
    """Follows events from a cursor on, those of a partition in order.

    A batch is read when it is asked for, so a slow reader slows the stream and fills no memory; one
    that is cut off as too slow resumes where it was.

    Args:
        calls: how to call.
        open_stream: opens the stream from a cursor on.
        cursor: where to begin.
        patience_s: how long to try again while nobody answers.
        to_end: return no events when there are none left, instead of waiting for new ones.
    """

    def __init__(
        self,
        calls: Calls,
        open_stream: Open,
        cursor: str,
        *,
        patience_s: float | None = None,
        to_end: bool = False,
    ) -> None:
        self.cursor = cursor
        self.at_end = False
        """Whether there was nothing behind the events returned last; only known with `to_end`."""
        self._to_end = to_end
        self._calls = calls
        self._open = open_stream
        self._stream: Stream | None = None
        # The last event of each partition.
        self._seqs: dict[int, int] = {}
        self._patience = Patience(calls.patience_s if patience_s is None else patience_s)

    async def next(self) -> list[event_pb2.Event]:
        """Returns the next events, at least one, or with `to_end` perhaps none.

        Raises:
            PodiumError: the service refuses, or nobody answers for too long.
        """
        return await self._calls.wire.run(self._next())

    async def close(self) -> None:
        """Ends the watch."""
        await self._calls.wire.run(self._drop())

    async def _next(self) -> list[event_pb2.Event]:
        while True:
            try:
                response = await self._read()
            except grpc.aio.AioRpcError as error:
                await self._drop()
                failure = from_rpc_error(error, self._calls.peer("task_scheduler"))
                await self._recover(failure, transient=is_transient(error))
                continue
            self._patience.reset()
            self.cursor = response.cursor or self.cursor
            events = self._new(response.events)
            self.at_end = self._to_end and getattr(response, "caught_up", False)
            if events or self.at_end:
                return events

    def _new(self, events: Sequence[event_pb2.Event]) -> list[event_pb2.Event]:
        """Returns the events of a batch, which is of one partition, that were not seen before."""
        if not events:
            return []
        partition = events[0].partition
        seen_seq = self._seqs.get(partition, 0)
        new = [event for event in events if event.seq > seen_seq]
        if new:
            self._seqs[partition] = new[-1].seq
        return new

    async def _read(self) -> Response:
        while True:
            if self._stream is None:
                self._stream = self._open(self._calls.stubs, self.cursor)
            response = await self._stream.read()
            if isinstance(response, Response):
                return response
            # The server ended the stream in order, for example to drain: open the next one.
            await self._drop()
            await self._patience.wait(self._calls.peer("task_scheduler").unreachable())

    async def _recover(self, failure: PodiumError, *, transient: bool) -> None:
        if isinstance(failure, ResourceExhausted) and "cursor" in failure.metadata:
            self.cursor = failure.metadata["cursor"]
        elif transient or failure.reason == "TOO_MANY_WATCHES":
            await self._patience.wait(failure)
        else:
            raise failure

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()
