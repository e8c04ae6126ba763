"""What happened to a task, as much of it as one answer may hold."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing

from podium.v1 import event_pb2, task_scheduler_pb2
from services.task_scheduler.ports import Desk
from services.task_scheduler.servicer.watch import as_frame, leave_payloads_out

FIRST_LEN = 100
LAST_LEN = 400
FIRST_BYTES = 256 << 10
LAST_BYTES = 1 << 20
"""Both are well below what a message may have, beside the task and its decisions."""
TURN_S = 0.005
"""How long one search may keep the event loop."""
SEARCHES_MAX = 2
"""Searches at a time: whoever follows the log waits behind a part of each."""


class History:
    """The events of one task: the first ones and the last ones."""

    def __init__(self) -> None:
        self.left_out = 0
        """Events that are not among them."""
        self._latest: event_pb2.Event | None = None
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque()
        self._first_bytes = self._last_bytes = 0

    def add(self, event: event_pb2.Event) -> None:
        """Take the next event, which is spoiled by it."""
        latest = self._latest
        if latest is not None:
            if latest.HasField("progress") and event.HasField("progress"):
                self.left_out += 1
            else:
                self._put(latest)
        self._latest = event

    def frames(self) -> list[bytes]:
        """Return the events, each as field 1 of a message; no more can be added."""
        if self._latest is not None:
            self._put(self._latest)
            self._latest = None
        return [*self._first, *self._last]

    def _put(self, event: event_pb2.Event) -> None:
        leave_payloads_out(event)
        frame = as_frame(event)
        room = len(self._first) < FIRST_LEN and self._first_bytes + len(frame) <= FIRST_BYTES
        if room and not self._last:
            self._first.append(frame)
            self._first_bytes += len(frame)
            return
        self._last.append(frame)
        self._last_bytes += len(frame)
        while len(self._last) > LAST_LEN or self._last_bytes > LAST_BYTES:
            self._last_bytes -= len(self._last.popleft())
            self.left_out += 1


class Histories:
    """Looks for the events of tasks in the log, some searches at a time."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = asyncio.Semaphore(SEARCHES_MAX)

    async def of(self, task_id: str, first_seq: int, last_seq: int) -> History:
        """Return the events of a task within a part of the log."""
        history = History()
        time = asyncio.get_running_loop().time
        until_s = time() + TURN_S
        async with (
            self._turn,
            aclosing(self._desk.search(task_id.encode(), first_seq, last_seq)) as found,  # type: ignore[type-var]  # generators
        ):
            async for groups in found:
                for group in groups:
                    message = task_scheduler_pb2.WatchEventsResponse.FromString(group.frames)
                    for event in message.events:
                        if event.task_id == task_id and event.seq <= last_seq:
                            history.add(event)
                    if time() > until_s:
                        await asyncio.sleep(0)
                        until_s = time() + TURN_S
        return history
