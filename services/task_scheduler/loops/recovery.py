"""Recovery: the newest snapshot, then what the log holds behind it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence

from podium.v1 import event_pb2, task_scheduler_pb2
from services.kernel.clock import Clock
from services.task_scheduler.core.restoring import Restoring
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.ports import Codec, Store

log = logging.getLogger("podium.task_scheduler")

SLICE_S = 0.02
"""How long recovery may hold the event loop at a time."""
FROZEN_LEN_MIN = 10_000


async def recover(core: Scheduler, journal: Store, codec: Codec, clock: Clock) -> int:
    """Bring an empty core to where the log ends; return the event of the snapshot, 0 = none.

    Raises:
        FailedPrecondition: JOURNAL_DAMAGED or JOURNAL_TOO_NEW.
    """
    # What is made here lives on: looking for garbage among it would double the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        snapshot_seq = await _restore(core, journal, codec, clock)
        await _replay(core, journal, codec, clock, snapshot_seq)
    finally:
        if collects:
            gc.enable()
    if len(core.book.tasks) >= FROZEN_LEN_MIN:
        gc.freeze()
    return snapshot_seq


async def _restore(core: Scheduler, journal: Store, codec: Codec, clock: Clock) -> int:
    snapshot = await journal.latest()
    if snapshot is None:
        return 0
    restoring = Restoring(core.book, clock.now())
    turns = _Turns()
    async for packed in snapshot.parts:
        restoring.add(codec.unpack(packed))
        await turns.share()
    restoring.finish()
    return snapshot.seq


async def _replay(
    core: Scheduler, journal: Store, codec: Codec, clock: Clock, after_seq: int
) -> None:
    now = clock.now()
    turns = _Turns()
    decode, replay = codec.decode, core.replay
    async for groups in journal.replay(after_seq):
        for group in groups:
            for message in event_batch(group.frames):
                event = decode(message)
                if event is None:
                    log.warning("event %d is of an unknown type and skipped", message.seq)
                    core.book.skip(message.seq)
                else:
                    replay(event, now)
            await turns.share()


class _Turns:
    """Lets others run now and then: health is asked for during recovery too."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._shared_s = self._time()

    async def share(self) -> None:
        if self._time() - self._shared_s > SLICE_S:
            gc.freeze()
            await asyncio.sleep(0)
            self._shared_s = self._time()


def event_batch(frames: bytes) -> Sequence[event_pb2.Event]:
    """Return the events of joined frames."""
    return task_scheduler_pb2.WatchEventsResponse.FromString(frames).events
