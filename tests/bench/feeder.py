"""A TaskScheduler that does one thing: whoever watches tasks is told large events at a rate."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import uvloop

from podium.v1 import task_scheduler_pb2_grpc
from podium.v1.event_pb2 import Event
from podium.v1.task_scheduler_pb2 import WatchTasksResponse


class Feeder(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Feeds watches.

    Args:
        size: bytes of one event, more or less.
        rate: events a second of each watch.
    """

    def __init__(self, size: int, rate: float) -> None:
        self._text = "x" * size
        self._rate = rate

    async def WatchTasks(self, request: Any, context: Any) -> AsyncIterator[WatchTasksResponse]:
        """Tell events until the watcher goes."""
        seq = 0
        while True:
            seq += 1
            event = Event(seq=seq, type=Event.TYPE_PROGRESS, task_id="t", traceparent=self._text)
            yield WatchTasksResponse(events=[event], cursor=str(seq))
            await asyncio.sleep(1 / self._rate)


async def serve(size: int, rate: float) -> None:
    """Serve on a free port until killed, and tell which."""
    server: Any = grpc.aio.server()
    task_scheduler_pb2_grpc.add_TaskSchedulerServiceServicer_to_server(Feeder(size, rate), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=20)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.size, arguments.rate))
