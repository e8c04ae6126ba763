"""Where inputs meet the core and its effects are performed: one turn for all that came at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from services.kernel.clock import Clock
from services.kernel.coalesce import Outbox
from services.kernel.errors import ResourceExhausted, Unavailable
from services.kernel.instant import Instant
from services.routing.adapters.facts import Fact
from services.routing.adapters.frames import Frames
from services.routing.adapters.line import StreamLine
from services.routing.core import effects
from services.routing.core.effects import LeaseKey, ToAgent, ToScheduler, bytes_of
from services.routing.core.router import Router

stall_look_s = 1.0
"""How often those lines are looked at again whose readers were behind."""
settlement_s = 10.0
admit_s = 0.01
"""How often Hellos that wait are looked at."""


class RouterDesk:
    """Performs what the core decides."""

    def __init__(
        self,
        router: Router,
        clock: Clock,
        frames: Frames,
        observe_assignment: Callable[[float], None],
    ) -> None:
        self.router = router
        self._reports: dict[int, Outbox[ToScheduler]] = {}
        """Reports to the scheduler of each partition that is reached."""
        self.registry: Outbox[Fact] | None = None
        """Facts for the registry, while it is reached."""
        self.facts_dropped = 0
        self._clock = clock
        self._frames = frames
        self._observe = observe_assignment
        self._lines: dict[int, StreamLine] = {}
        self._numbers = 0
        self._touched = False
        self._admitting = False
        self._wall_ms = 0
        self._stalls_due_s = 0.0
        self._behind: set[StreamLine] = set()
        """Lines whose reader was behind since the last look."""
        self._waiters: dict[LeaseKey, list[asyncio.Future[int]]] = {}
        to_agent: dict[type, Callable[[Any], None]] = dict.fromkeys(
            (
                effects.SendReady,
                effects.SendRenewAck,
                effects.SendResultAck,
                effects.SendCancel,
                effects.SendRecall,
                effects.SendProbe,
                effects.SendPace,
            ),
            self._to_session,
        )
        to_line = dict.fromkeys((effects.SendSuperseded, effects.SendRefusal), self._to_stream)
        to_scheduler = dict.fromkeys(
            (
                effects.Started,
                effects.Progressed,
                effects.Asked,
                effects.HandedBack,
                effects.Ended,
                effects.Renewed,
                effects.Claimed,
                effects.Credited,
            ),
            self._to_scheduler,
        )
        to_registry = dict.fromkeys(
            (effects.Opened, effects.Closed, effects.Outcome), self._to_registry
        )
        self._perform: dict[type, Callable[[Any], None]] = {
            **to_agent,
            **to_line,
            **to_scheduler,
            **to_registry,
            effects.SendAssign: self._assign,
            effects.SendDrain: self._to_stream,
            effects.SendTune: self._to_stream,
            effects.Settled: self._settled,
            effects.CloseStream: self._close,
        }

    @property
    def line_count(self) -> int:
        """How many streams are open."""
        return len(self._lines)

    def now(self) -> Instant:
        """Return the time that inputs are stamped with."""
        return self._clock.now()

    def open_line(self) -> StreamLine:
        """Take a new stream in."""
        self._numbers += 1
        stream = self.router.attendance.open_stream(self._numbers)
        line = self._lines[stream.number] = StreamLine(stream, self._frames, self._sent)
        return line

    def drop_line(self, number: int) -> None:
        """Let a stream go that has ended."""
        line = self._lines.pop(number, None)
        if line is not None:
            line.close()
            self._behind.discard(line)
            self.router.admission.close_stream(number)
            self.router.attendance.close_stream(number, self.now())
            self.touch()

    def close_lines(self) -> None:
        """End all streams."""
        for line in tuple(self._lines.values()):
            line.close()

    def connect(self, partition: int, reports: Outbox[ToScheduler] | None) -> None:
        """Send reports about a partition there from now on; None = nowhere."""
        if reports is None:
            self._reports.pop(partition, None)
        else:
            self._reports[partition] = reports

    def touch(self) -> None:
        """Let the core decide at the end of this turn of the loop."""
        if not self._touched:
            self._touched = True
            asyncio.get_running_loop().call_soon(self._turn)

    def tick(self) -> None:
        """Do what is due."""
        now = self.now()
        if now.mono_s >= self._stalls_due_s:
            self._stalls_due_s = now.mono_s + stall_look_s
            self._look_for_stalls(now)
        self.router.tick(now)
        self.touch()

    def _sent(self, line: StreamLine, batch: Sequence[ToAgent]) -> None:
        """Count the bytes that wait no more."""
        stream = line.stream
        if not stream.queued_bytes:
            return
        left_bytes = 0
        if len(line.outbox):
            left_bytes = max(0, stream.queued_bytes - sum(map(bytes_of, batch)))
        if self.router.liveness.sent(stream, left_bytes):
            self.touch()

    def _look_for_stalls(self, now: Instant) -> None:
        for line in tuple(self._behind):
            stalled = line.is_behind
            if not stalled:
                self._behind.discard(line)
            if stalled or line.stalled:
                line.stalled = stalled
                self.router.liveness.stall_stream(line.number, now, stalled=stalled)

    def tell_alive(self) -> None:
        """Tell the registry who was heard of."""
        if self.registry is not None:
            for session in self.router.liveness.alive():
                self._to_registry(session)

    async def settlement(self, key: LeaseKey) -> int:
        """Return the scheduler's verdict on an outcome that was reported.

        Raises:
            Unavailable: SCHEDULER_UNREACHABLE, it did not answer in time.
        """
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, []).append(waiter)
        self.touch()
        try:
            async with asyncio.timeout(settlement_s):
                return await waiter
        except TimeoutError:
            raise Unavailable(
                "SCHEDULER_UNREACHABLE",
                "The scheduler does not answer; repeat the result.",
                retry_after_s=1.0,
            ) from None
        finally:
            waiters = self._waiters.get(key, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[key]

    def _turn(self) -> None:
        self._touched = False
        perform = self._perform
        now = self._clock.now()
        self._wall_ms = now.wall_ms
        for effect in self.router.turn(now):
            perform[type(effect)](effect)
        if self.router.admission and not self._admitting:
            self._admitting = True
            asyncio.get_running_loop().call_later(admit_s, self._admit)

    def _admit(self) -> None:
        """Let the core decide once more: Hellos wait that are due by now."""
        self._admitting = False
        self.touch()

    def _assign(self, effect: effects.SendAssign) -> None:
        lease = effect.lease
        if lease.queued_ms:
            self._observe(max(0.0, (self._wall_ms - lease.queued_ms) / 1e3))
        self._to_session(effect)

    def _to_session(self, effect: Any) -> None:
        stream = effect.session.stream
        if stream is not None:
            # Whoever drains waits for nothing else before it ends.
            patient = type(effect) is effects.SendResultAck and not effect.session.draining
            self._put(stream.number, effect, patient=patient)

    def _to_stream(self, effect: Any) -> None:
        self._put(effect.stream, effect)

    def _put(self, number: int, effect: ToAgent, *, patient: bool = False) -> None:
        line = self._lines.get(number)
        if line is None:
            return
        if not line.put(effect, patient=patient) and not line.outbox.closed:
            line.fail(_stalled("The stream is not read; open another and resume."))
        if line.is_behind:
            self._behind.add(line)

    def _to_scheduler(self, effect: Any) -> None:
        if self.router.board.fleet.partitions > 1:
            for partition, part in effects.parted(effect):
                outbox = self._reports.get(partition)
                if outbox is not None:
                    outbox.put(part)
        elif self._reports:
            self._reports[0].put(effect)

    def _to_registry(self, fact: Fact) -> None:
        if self.registry is None:
            return
        kind = type(fact)
        patient, prompt = kind is effects.Outcome, kind is effects.Opened
        if not self.registry.offer(fact, patient=patient, prompt=prompt):
            self.facts_dropped += 1

    def _settled(self, effect: effects.Settled) -> None:
        for waiter in self._waiters.pop((effect.task_id, effect.epoch), ()):
            if not waiter.done():
                waiter.set_result(effect.verdict)

    def _close(self, effect: effects.CloseStream) -> None:
        line = self._lines.get(effect.stream)
        if line is not None:
            line.fail(_stalled(effect.message))


def _stalled(message: str) -> ResourceExhausted:
    return ResourceExhausted("STREAM_STALLED", message, retry_after_s=1.0)
