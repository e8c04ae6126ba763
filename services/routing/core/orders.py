"""What the scheduler says: grants, verdicts, settlements, revocations.

The scheduler decides what holds; here its word becomes the state of leases.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from services.kernel.versions import covers
from services.routing.core.assignment import Lease, Stage
from services.routing.core.attendance import Attendance
from services.routing.core.board import Board
from services.routing.core.effects import (
    ACCEPTED,
    CANCEL,
    KEEP,
    LOST,
    REFUSED,
    Claimed,
    HandedBack,
    LeaseKey,
    SendResultAck,
    SendTune,
    Settled,
    Started,
    Verdict,
    ending,
    partition_in,
)
from services.routing.core.work import Work

if TYPE_CHECKING:
    from services.kernel.instant import Instant

HAND_BACK_MEMORY_S = 10.0
reclaim_wait_s = 0.5
"""How long a task must have waited before another router's free slot is worth the way there."""


class Orders:
    """Follows the scheduler."""

    def __init__(self, board: Board, work: Work, attendance: Attendance) -> None:
        self._board = board
        self._work = work
        self._attendance = attendance
        self.granted = 0

    def grant(
        self,
        lease: Lease,
        class_id: int,
        required: Iterable[str],
        preferred: Iterable[str],
        now: Instant,
    ) -> None:
        """Take a task in, to wait for an agent."""
        board = self._board
        kind = board.fleet.class_by_id.get(class_id)
        if board.leases.get(lease.key) is not None:
            return
        self.granted += 1
        board.leases.add(lease)
        if kind is not None:
            part = kind.parts[lease.partition]
            part.granted += 1
            part.heard_s = now.mono_s
            board.fleet.changed.add(kind)
        lease.granted_s = now.mono_s
        if board.draining or kind is None:
            board.leases.drop(lease)
            reason = "ROUTER_DRAINING" if board.draining else "NO_AGENT"
            board.leases.note_handed_back(now.mono_s, lease.key, reason, "")
            board.effects.append(HandedBack(*lease.key, reason, ""))
            return
        lease.kind = kind
        lease.demand = board.demands.of(required, preferred)
        board.queue(lease)

    def divide(self, partitions: int) -> None:
        """Note how many partitions the scheduler has, each with a stream of its own."""
        board = self._board
        board.fleet.divide(partitions)
        board.up = [partition for partition in board.up if partition < partitions]

    def hello(self, partition: int = 0) -> tuple[LeaseKey, ...]:
        """Return the leases to tell a scheduler of when a stream to it begins."""
        if set(self._board.up) <= {partition}:
            self._board.fleet.forget_empty_classes()
        return tuple(
            lease.key
            for lease in self._board.leases
            if lease.stage != Stage.STOPPING and self._is_of(lease.task_id, partition)
        )

    def welcome(
        self,
        held: Iterable[LeaseKey],
        verdicts: Iterable[Verdict],
        now: Instant,
        lease_s: float = 0.0,
        partition: int = 0,
    ) -> None:
        """Go on under the scheduler's verdicts and repeat what it may have missed.

        Args:
            held: What it was told of.
            verdicts: What it says to that.
            now: The time.
            lease_s: How long a lease lives; 0 = as before.
            partition: Whose scheduler says it.
        """
        board = self._board
        board.up = sorted({*board.up, partition})
        if lease_s and lease_s != board.lease_s:
            board.lease_s = lease_s
            board.effects.extend(SendTune(number, lease_s) for number in board.streams)
        told = {(task_id, epoch): verdict for task_id, epoch, verdict in verdicts}
        for key in held:
            lease = board.leases.get(key)
            if lease is None:
                continue
            verdict = told.get(key, LOST)
            if verdict != KEEP:
                self._work.stop(lease, "CANCELED" if verdict == CANCEL else "LEASE_LOST", now)
            elif lease.stage is Stage.CLAIMED:
                self._work.keep(lease, now)
            elif lease.stage is Stage.RUNNING and lease.decision is not None:
                board.effects.append(Started(lease))
        self._claim_later(told, partition)
        self._repeat(partition, now)
        for kind in board.fleet.classes.values():
            part = kind.parts[partition]
            part.granted, part.announced, part.heard_s = 0, (-1, -1, -1), now.mono_s
            board.fleet.changed.add(kind)

    def _repeat(self, partition: int, now: Instant) -> None:
        """Say again what a stream that broke may have lost."""
        board = self._board
        since_s = now.mono_s - HAND_BACK_MEMORY_S
        for key, reason, agent_id in board.leases.handed_back_since(since_s):
            if self._is_of(key[0], partition):
                board.effects.append(HandedBack(*key, reason, agent_id))
        for lease in board.leases.unsettled.values():
            if self._is_of(lease.task_id, partition):
                # The report of its start may be lost as well.
                lease.start_told = False
                board.effects.append(ending(lease))

    def _is_of(self, task_id: str, partition: int) -> bool:
        return self._board.fleet.partitions == 1 or partition_in(task_id) == partition

    def _claim_later(self, told: Container[LeaseKey], partition: int) -> None:
        """Ask about leases that agents came with while nobody could be asked."""
        claims: dict[str, list[LeaseKey]] = {}
        for lease in self._board.leases:
            mine = lease.stage is Stage.CLAIMED and self._is_of(lease.task_id, partition)
            if mine and lease.key not in told:
                claims.setdefault(lease.agent_id, []).append(lease.key)
        self._board.effects.extend(Claimed(agent, tuple(keys)) for agent, keys in claims.items())

    def disconnected(self, partition: int = 0) -> None:
        """Note that a scheduler cannot be reached; work goes on."""
        self._board.up = [other for other in self._board.up if other != partition]

    def settled(self, key: LeaseKey, verdict: int) -> None:
        """Pass on that an outcome is durable, or was refused."""
        board = self._board
        lease = board.leases.unsettled.pop(key, None)
        board.effects.append(Settled(*key, verdict))
        if lease is None or lease.lost:
            return
        if lease.refused and verdict == ACCEPTED:
            verdict = REFUSED
        session = board.sessions.get(lease.agent_id)
        if session is not None and session.stream is not None:
            board.effects.append(SendResultAck(session, *key, verdict))

    def revoke(self, key: LeaseKey, reason: str, now: Instant) -> None:
        """End a lease that the scheduler has ended."""
        lease = self._board.leases.get(key)
        if lease is not None:
            if reason == "LEASE_EXPIRED" and lease.session is not None:
                # It did not renew: nothing more for it until it is heard again.
                lease.session.silent = True
                if lease.session.row >= 0:
                    self._board.fleet.refresh(lease.session)
            self._work.stop(lease, reason, now)

    def reclaim(self, capabilities: Iterable[str], count: int, now: Instant) -> None:
        """Hand back tasks that wait here for long, since agents of another router are free."""
        have = frozenset(capabilities)
        due_s = now.mono_s - reclaim_wait_s
        for lease in tuple(self._board.waiting):
            if count <= 0:
                return
            demand = lease.demand
            assert demand is not None
            if lease.granted_s <= due_s and covers(have, demand.required):
                self._work.hand_back(lease, "FREE_ELSEWHERE", "", now)
                count -= 1

    def verdicts(self, verdicts: tuple[Verdict, ...], now: Instant) -> None:
        """Follow the scheduler's word on leases that agents came with or renewed."""
        board = self._board
        for task_id, epoch, verdict in verdicts:
            key = (task_id, epoch)
            lease = board.leases.get(key)
            if lease is None:
                continue
            session = lease.session
            asked = session is not None and key in session.claims
            if verdict == KEEP:
                self._work.keep(lease, now)
            elif asked and session is not None and not session.ready:
                board.unbind(lease)
                board.leases.drop(lease)
            else:
                self._work.stop(lease, "CANCELED" if verdict == CANCEL else "LEASE_LOST", now)
            if asked and session is not None:
                session.claims.discard(key)
                session.verdicts.append((task_id, epoch, verdict))
                if not session.claims and not session.ready:
                    self._attendance.make_ready(session)
