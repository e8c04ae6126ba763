"""Keeps recovery short and the log bounded: snapshots now and then, and what is old dropped."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import NamedTuple

from services.kernel.clock import Clock
from services.task_scheduler.core.snapshot import Album, Picture
from services.task_scheduler.loops.commit import Committer
from services.task_scheduler.ports import Codec, StorageFailed, Store

log = logging.getLogger("podium.task_scheduler.snapshots")

LOOK_S = 0.25
QUIET_S = 2.0
QUIET_EVENTS_MIN = 1_000
"""Events that are worth a snapshot when nothing else is to be done."""
WORK_SHARE = 0.1
"""Share of the event loop that snapshots may take, one after the other."""
STORE_BYTES_PER_S = 10 << 20
"""What snapshots may store, one after the other: whatever has changed, all is written and hashed,
which takes a few nanoseconds a byte beside the loop, so this is some three hundredths of a core."""
PAUSE_S = 0.002
"""Between two slices, so that a snapshot delays nobody by more than a slice."""
SLICE_SHARE = 1 / 3
"""A slice over the pause before it. Where others keep the loop busy, pauses are long: slices grow
with them, else the log would run away from a snapshot that waits for its turn time and again."""
RETRY_S = 10.0
COMPACT_S = 60.0


class Retention(NamedTuple):
    """What is kept of the log beyond what recovery needs."""

    snapshot_events: int = 50_000
    log_s: float = 7 * 86_400.0
    log_bytes_max: int = 8 << 30


class Keeper:
    """Takes snapshots of the core and drops old events."""

    def __init__(
        self,
        committer: Committer,
        journal: Store,
        codec: Codec,
        clock: Clock,
        retention: Retention,
    ) -> None:
        self.failures = 0
        self._committer = committer
        self._journal = journal
        self._album = Album(codec.pack)
        self._clock = clock
        self._retention = retention
        self._seen_seq = 0
        self._quiet_from_s = 0.0
        self._not_before_s = 0.0
        self._compact_s = 0.0
        self._worked_s = 0.0
        self._stored_bytes = 0

    @property
    def snapshot_seq(self) -> int:
        """The event of the newest snapshot."""
        return self._committer.snapshot_seq

    async def run(self) -> None:
        """Work until cancelled; what fails is told and tried again."""
        await self._committer.started()
        while True:
            await self._clock.sleep(LOOK_S)
            now_s = self._clock.now().mono_s
            try:
                due = self._due(now_s)
                if due:
                    await self.take()
                if due or now_s >= self._compact_s:
                    self._compact_s = now_s + COMPACT_S
                    await self.compact()
            except StorageFailed as failed:
                self.failures += 1
                self._not_before_s = now_s + RETRY_S
                log.error(
                    "no snapshot now, or nothing dropped; recovery would take longer: %s", failed
                )

    async def take(self) -> None:
        """Take a snapshot.

        Raises:
            StorageFailed: It could not be stored.
        """
        began_s = self._clock.now().mono_s
        self._worked_s, self._stored_bytes = 0.0, 0
        picture = await self._committer.picture()
        try:
            # The log must hold the event before a snapshot of it may be found.
            await self._committer.settled()
            await self._journal.keep(picture.seq, self._packed(picture))
        finally:
            picture.drop()
        self._committer.snapshot_seq = picture.seq
        now_s = self._clock.now().mono_s
        self._not_before_s = now_s + max(
            self._worked_s / WORK_SHARE, self._stored_bytes / STORE_BYTES_PER_S
        )
        log.info("kept a snapshot at event %d in %.1f s", picture.seq, now_s - began_s)

    async def compact(self) -> None:
        """Drop what is older than wanted."""
        before_ms = self._clock.now().wall_ms - round(self._retention.log_s * 1000)
        await self._journal.compact(before_ms, self._retention.log_bytes_max)

    def _due(self, now_s: float) -> bool:
        durable_seq = self._committer.durable_seq
        if durable_seq != self._seen_seq:
            self._seen_seq = durable_seq
            self._quiet_from_s = now_s + QUIET_S
        quiet = now_s >= self._quiet_from_s
        tail = durable_seq - self.snapshot_seq
        wanted = QUIET_EVENTS_MIN if quiet else self._retention.snapshot_events
        return tail >= wanted and now_s >= self._not_before_s

    async def _packed(self, picture: Picture) -> AsyncIterator[bytes]:
        clock = self._clock
        left_s = 0.0
        parts = self._album.parts(picture)
        while True:
            began_s = clock.now().mono_s
            packed = next(parts, None)
            if packed is None:
                return
            ended_s = clock.now().mono_s
            self._worked_s += ended_s - began_s
            self._stored_bytes += len(packed)
            left_s -= ended_s - began_s
            yield packed
            if left_s <= 0:
                paused_s = clock.now().mono_s
                await clock.sleep(PAUSE_S)
                left_s = (clock.now().mono_s - paused_s) * SLICE_SHARE
