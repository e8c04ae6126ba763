"""The commit loop and the tick.

One commit is under way at a time. Everything produced while it syncs goes into the next one, and
leaves when that is durable: replies, grants, verdicts and watch events alike. So the load makes the
batches, and a grant made in the same step as its submit shares its fsync.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from services.kernel.clock import Clock
from services.kernel.coalesce import Rhythm
from services.kernel.errors import ResourceExhausted, Unavailable
from services.kernel.instant import Instant
from services.task_scheduler.core.scheduler import Scheduler, Step
from services.task_scheduler.core.snapshot import Picture
from services.task_scheduler.loops.recovery import recover
from services.task_scheduler.ports import (
    Codec,
    Commit,
    Failpoint,
    Group,
    Listener,
    LogLost,
    StorageFailed,
    Store,
)

log = logging.getLogger("podium.task_scheduler")

TICK_S = 0.05
TELL_EVERY_S = 60.0
WORTH_LEN = 6.0
"""Events expected within 3 ms from which a commit waits for more of them."""
RETRY_AFTER_S = 0.5
FULL_RETRY_AFTER_S = 5.0


class Committer:
    """Owns the core's log: replays it, then commits what the core does, group by group."""

    def __init__(
        self,
        core: Scheduler,
        journal: Store,
        codec: Codec,
        clock: Clock,
        failpoint: Failpoint = lambda name: None,
    ) -> None:
        self.core = core
        self.durable_seq = 0
        self.first_seq = 0
        self.commits = 0
        self.snapshot_seq = 0
        self.checked_seq = 0
        self.damage = ""
        self._dropped_told = 0
        self._pushed_out_told = 0
        self._tell_at_s = 0.0
        self._alarm_s = 0.0
        self._journal = journal
        self._codec = codec
        self._clock = clock
        self._failpoint = failpoint
        self._listeners: list[Listener] = []
        self._begins: list[Callable[[int], None]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._idle: asyncio.Future[None] | None = None
        self._woken = False
        self._urgent_len = 0
        self._gathering: asyncio.Future[None] | None = None
        self._busy = False
        self._rhythm = Rhythm(expected_len=WORTH_LEN)
        self._urgent_rhythm = Rhythm()
        self._refusal = "STARTING"
        self._draining = False
        self._owning = False
        self._started = asyncio.Event()
        self._posing: asyncio.Future[Picture] | None = None

    @property
    def owner_address(self) -> str:
        """Where the owner of the log is, while that is another process."""
        return "" if self._owning else self._journal.owner_address

    @property
    def compacted_seq(self) -> int:
        """The last event that is no longer kept."""
        return self._journal.compacted_seq

    def listen(self, listener: Listener, *, begin: Callable[[int], None] | None = None) -> None:
        """Tell `listener` of every commit, in order; it must not wait.

        Args:
            listener: Called with each commit.
            begin: Called with the last event of the log before the first commit.
        """
        self._listeners.append(listener)
        if begin is not None:
            self._begins.append(begin)

    @property
    def waits_for(self) -> str:
        """Empty when the scheduler does its work, else why not."""
        if self._refusal == "STARTING":
            if not self._owning:
                # One that stands by passes calls on: it is as ready as the owner is.
                return "" if self.owner_address else "no scheduler owns the log"
            return f"the log is being replayed ({self.core.book.seq} events so far)"
        return "" if not self._refusal else "the journal has failed"

    def now(self) -> Instant:
        """Return the time."""
        return self._clock.now()

    def check(self, *, submitting: bool = False) -> None:
        """Raise while nothing can be answered, or nothing be taken in.

        Raises:
            Unavailable: STARTING, DRAINING or STORAGE_UNREACHABLE.
            ResourceExhausted: STORAGE_FULL.
        """
        if self._refusal == "STARTING":
            raise Unavailable(
                "STARTING", "The log is being replayed: try again.", retry_after_s=RETRY_AFTER_S
            )
        if self._refusal or (submitting and self._draining):
            raise Unavailable(
                "DRAINING",
                "The scheduler is stopping: try again, it may be back soon.",
                retry_after_s=RETRY_AFTER_S,
            )
        if not self._journal.reachable:
            raise Unavailable(
                "STORAGE_UNREACHABLE",
                "The journal cannot be reached: try again.",
                retry_after_s=RETRY_AFTER_S,
            )
        if submitting and self._journal.short_of_space():
            raise ResourceExhausted(
                "STORAGE_FULL",
                "The disk is full: only what was accepted before is still carried out.",
                retry_after_s=FULL_RETRY_AFTER_S,
            )

    def wake(self, urgent_len: int = 0) -> None:
        """Say that the core was given something to do.

        Args:
            urgent_len: Urgent tasks in it: they wait for nothing more, unless they come in masses.
        """
        self._woken = True
        self._urgent_len += urgent_len
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if urgent_len and self._urgent_rhythm.wait_s(self._clock.now().mono_s) <= 0:
            self._go()

    def _go(self) -> None:
        if self._gathering is not None and not self._gathering.done():
            self._gathering.set_result(None)

    async def settled(self) -> None:
        """Return when everything that has happened so far is durable.

        Raises:
            Unavailable: DRAINING, it never will be.
        """
        self.check()
        book = self.core.book
        if not book.outbox and not self._busy and book.seq == self.durable_seq:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.wake()
        await waiter

    async def read(self, after_seq: int, size_bytes_max: int) -> Sequence[Group]:
        """Return groups of the journal."""
        return await self._journal.read(after_seq, size_bytes_max)

    def search(
        self, needle: bytes, first_seq: int, last_seq: int
    ) -> AsyncIterator[Sequence[Group]]:
        """Yield groups of the journal that contain `needle`, some at a time."""
        return self._journal.search(needle, first_seq, last_seq)

    async def verify(self, after_seq: int) -> int:
        """Check the next groups of the journal, and return the last event of them."""
        return await self._journal.verify(after_seq)

    async def started(self) -> None:
        """Return when recovery is over."""
        await self._started.wait()

    async def picture(self) -> Picture:
        """Return the state as it is between two steps."""
        self._posing = asyncio.get_running_loop().create_future()
        self.wake()
        return await self._posing

    async def run(self) -> None:
        """Replay the log, then commit until cancelled; raise when the journal fails."""
        try:
            await self._recover()
            # A tick that failed would leave leases and retries waiting for ever.
            beside = [asyncio.create_task(each) for each in (self._tick(), self._lose())]
            try:
                for one in beside:
                    one.add_done_callback(lambda _: self.wake())
                while not any(one.done() for one in beside):
                    await self._commit_next()
                for one in beside:
                    if one.done():
                        one.result()
            finally:
                for one in beside:
                    one.cancel()
        except StorageFailed as failed:
            log.critical("the scheduler stops: %s", failed)
            self._refuse()
            raise
        except Exception:
            log.critical("the scheduler stops: the commit loop failed")
            self._refuse()
            raise

    async def drain(self) -> None:
        """Take nothing more in, and return when what was taken in is durable."""
        self._draining = True
        if not self._refusal:
            await self.settled()

    def retire(self) -> None:
        """Answer nothing more: another process goes on from here."""
        self._refuse()

    async def _recover(self) -> None:
        core = self.core
        await self._journal.own()
        self._owning = True
        self.snapshot_seq = await recover(core, self._journal, self._codec, self._clock)
        self.durable_seq = self.first_seq = core.book.seq
        for begin in self._begins:
            begin(self.durable_seq)
        core.start(self._clock.now())
        self._refusal = ""
        self.wake()
        self._started.set()
        log.info(
            "recovered %d open tasks and %d leases from a snapshot at event %d and %d events",
            core.book.open_tasks,
            len(core.book.leases),
            self.snapshot_seq,
            self.durable_seq - self.snapshot_seq,
        )

    async def _lose(self) -> None:
        await self._journal.lost()
        raise LogLost("another scheduler has taken over")

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            now = self._clock.now()
            self.core.tick(now)
            self._tell_dropped(now.mono_s)
            if self.core.book.outbox or self.core.orders:
                self.wake()
            self._set_alarm(now.mono_s)

    def _tell_dropped(self, now_s: float) -> None:
        """Warn of what was forgotten too early, at most once a minute."""
        book = self.core.book
        dropped = book.dead.dropped - self._dropped_told
        pushed_out = book.requests.chosen.pushed_out - self._pushed_out_told
        if now_s < self._tell_at_s or not (dropped or pushed_out):
            return
        self._tell_at_s = now_s + TELL_EVERY_S
        self._dropped_told += dropped
        self._pushed_out_told += pushed_out
        if dropped:
            log.warning(
                "%d dead letters were dropped for want of room: requeue them in time, or "
                "raise PODIUM_DEAD_TASKS_MAX and PODIUM_DEAD_BYTES_MAX",
                dropped,
            )
        if pushed_out:
            log.warning(
                "%d request ids were forgotten before 24 hours, the last after %d s, so that a "
                "repeat of their calls makes a second task: raise PODIUM_REQUEST_IDS_MAX",
                pushed_out,
                book.requests.chosen.kept_ms // 1000,
            )

    async def _commit_next(self) -> None:
        if not self._woken:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
            self._idle = None
        await self._gather()
        self._woken = False
        began = self._clock.now()
        if self._urgent_len:
            self._urgent_rhythm.sent(began.mono_s, self._urgent_len)
            self._urgent_len = 0
        step = self.core.take(began)
        if self._posing is not None and not self.core.book.waits.affected:
            if not self._posing.done():
                self._posing.set_result(Picture(self.core.book))
            self._posing = None
        # They wait for a commit of their own even when it is empty: the one before is done then.
        waiters, self._waiters = self._waiters, []
        sealed = [self._codec.seal(*recorded) for recorded in step.events]
        encoded = [self._codec.order(order) for _, order in step.orders]
        try:
            if sealed:
                self._rhythm.sent(began.mono_s, len(sealed))
                await self._append(step, b"".join([one.frame for one in sealed]))
            self._release(Commit(sealed, step.orders, encoded, began, self._clock.now()), waiters)
        except BaseException:
            self._waiters = waiters + self._waiters
            raise
        self._woken = self._woken or self.core.more or bool(self.core.book.outbox)
        self._set_alarm(self._clock.now().mono_s)

    async def _gather(self) -> None:
        """Wait a turn of the loop, or a moment under load, for what comes with the first."""
        now_s = self._clock.now().mono_s
        wait_s = self._rhythm.wait_s(now_s)
        if self._urgent_len:
            wait_s = min(wait_s, self._urgent_rhythm.wait_s(now_s))
        if wait_s <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        self._gathering = loop.create_future()
        timer = loop.call_later(wait_s, self._go)
        try:
            await self._gathering
        finally:
            self._gathering = None
            timer.cancel()

    def _set_alarm(self, now_s: float) -> None:
        """Wake when the next task may start under a rate; a tick looks again at what is later."""
        due_s = self.core.book.queue.keys.rates.next_s
        if due_s is not None and due_s != self._alarm_s and due_s - now_s < TICK_S:
            self._alarm_s = due_s
            asyncio.get_running_loop().call_later(max(0.0, due_s - now_s), self._ring)

    def _ring(self) -> None:
        # A timer of the loop may come a little early: then another one is set behind the commit.
        self._alarm_s = 0.0
        self.wake()

    def _release(self, commit: Commit, waiters: Sequence[asyncio.Future[None]]) -> None:
        """Let everything leave that waited for the commit."""
        if waiters:
            self._failpoint("before_reply")
        if commit.orders:
            self._failpoint("before_dispatch")
        if commit.sealed or commit.orders:
            for listener in self._listeners:
                listener(commit)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _append(self, step: Step, frames: bytes) -> None:
        last_seq = step.events[-1][0].seq
        self._busy = True
        wall_ms = self._clock.now().wall_ms
        await self._journal.append(Group(step.events[0][0].seq, last_seq, frames, wall_ms))
        self._busy = False
        self.durable_seq = last_seq
        self.commits += 1

    def _refuse(self) -> None:
        self._refusal = "FAILED"
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(
                    Unavailable("DRAINING", "The scheduler had to stop: try again.")
                )
        self._waiters = []
