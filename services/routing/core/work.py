"""What agents make of leases: taken, declined, renewed, ended, given up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from services.kernel.errors import ResourceExhausted
from services.routing.core.assignment import Lease, Stage
from services.routing.core.board import Board
from services.routing.core.effects import (
    FENCED,
    CloseStream,
    Ended,
    LeaseKey,
    Outcome,
    Progressed,
    Renewed,
    SendAssign,
    SendCancel,
    SendRecall,
    SendRefusal,
    SendRenewAck,
    SendResultAck,
    Started,
    bytes_of,
    ending,
)
from services.routing.core.verdicts import conflict, stale

if TYPE_CHECKING:
    from services.kernel.instant import Instant
    from services.routing.core.session import Session

HAND_BACK_MEMORY_S = 10.0
unsettled_len_max = 50_000

# Named once: Python 3.11 takes as long to find a member of an enum as for a call.
_OFFERED, _RUNNING = Stage.OFFERED, Stage.RUNNING
_STOPPING, _ENDED = Stage.STOPPING, Stage.ENDED


class Work:
    """The life of leases on this router."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.started = 0
        self.ended = 0
        self.handed_back = 0

    def stop(self, lease: Lease, reason: str, now: Instant) -> None:
        """Forget a lease; an agent that has it is told, and keeps its slot until it answers."""
        board = self._board
        session = lease.session
        if session is None or lease.stage is Stage.WAITING:
            board.unbind(lease)
            board.leases.drop(lease)
            return
        if lease.stage is _STOPPING:
            return
        lease.stage, lease.stop_reason = _STOPPING, reason
        lease.stop_due_s = now.mono_s + board.limits.stop_s
        lease.body = None
        if session.stream is not None:
            board.effects.append(SendCancel(session, *lease.key, reason))

    def keep(self, lease: Lease, now: Instant) -> None:
        """Go on with a lease an agent came with: the scheduler says that it holds."""
        if lease.stage is Stage.CLAIMED:
            self._run(lease, now)

    # From agents.

    def ack(self, session: Session, key: LeaseKey, now: Instant) -> None:
        """Begin the attempt."""
        lease = self._held(session, key, now)
        if lease is not None and lease.stage is _OFFERED:
            self.begin(lease, now)

    def begin(self, lease: Lease, now: Instant) -> None:
        """Note that the agent has an offered task."""
        self._take(lease, now)
        lease.start_told = True
        self._board.effects.append(Started(lease))

    def _take(self, lease: Lease, now: Instant) -> None:
        self.started += 1
        self._run(lease, now)
        assert lease.session is not None
        lease.session.proved_s = now.mono_s

    def nack(self, session: Session, key: LeaseKey, reason: str, now: Instant) -> None:
        """Give a declined task back; no attempt is spent."""
        lease = self._board.leases.get(key)
        if lease is None or lease.session is not session or lease.stage is not _OFFERED:
            return
        session.proved_s = now.mono_s
        if reason == "NACK_DRAINING":
            session.draining = True
        elif reason == "NACK_BUSY":
            self.pause(session, self._board.limits.pause_s, now)
        self.hand_back(lease, reason, session.agent_id, now)
        self._board.fleet.refresh(session)

    def renew(self, session: Session, keys: Iterable[LeaseKey], now: Instant) -> None:
        """Keep leases alive and tell which are not held any more."""
        board = self._board
        held, lost = [], []
        for key in keys:
            lease = board.leases.get(key) or board.leases.unsettled.get(key)
            mine = lease is not None and lease.agent_id == session.agent_id and not lease.lost
            if mine and lease is not None and lease.stage is not _STOPPING:
                held.append(key)
            else:
                lost.append(key)
        ack = SendRenewAck(session, tuple(held), tuple(lost))
        board.effects.append(ack)
        assert session.stream is not None
        board.queued(session.stream, bytes_of(ack))
        if session.stream.queued_bytes > 2 * session.stream.room_bytes:
            # Whoever asks and does not read the answers is not owed more of them.
            message = "The answers to renewals are not read; open another stream and resume."
            board.effects.append(CloseStream(session.stream.number, "STREAM_STALLED", message))
        if held:
            board.effects.append(Renewed(tuple(held)))

    def progress(self, session: Session, key: LeaseKey, body: object, now: Instant) -> None:
        """Pass progress on."""
        lease = self._held(session, key, now)
        if lease is not None:
            if lease.stage is _OFFERED:
                self.begin(lease, now)
            self._board.effects.append(Progressed(lease, body))

    def need_input(self, session: Session, key: LeaseKey, body: object, now: Instant) -> None:
        """End an attempt with a question; it is settled as a result is."""
        board = self._board
        lease = board.leases.get(key)
        # Where the task is being stopped, the question is the agent's answer to that.
        if lease is None or lease.session is not session or lease.stage is not _STOPPING:
            lease = self._held(session, key, now)
        if lease is None:
            return
        if lease.stage is _OFFERED:
            self.begin(lease, now)
        lease.asks = True
        self._settle_later(lease, body)

    def result(
        self,
        session: Session,
        key: LeaseKey,
        outcome: object,
        kind: str,
        now: Instant,
        *,
        refused: str = "",
    ) -> None:
        """End an attempt with what the agent says; one that is not known is the scheduler's."""
        board = self._board
        lease = board.leases.get(key)
        if lease is not None and lease.session is not session:
            self._not_yours(session, key, now)
            return
        if lease is None:
            known = board.leases.unsettled.get(key)
            if known is not None and known.agent_id == session.agent_id:
                if known.lost:
                    board.effects.append(SendResultAck(session, *key, FENCED))
                return
            self.pass_on(session.agent_id, key, outcome, refused=refused)
            return
        if lease.stage is _OFFERED:
            self._take(lease, now)
        lease.refused = refused
        self._end(lease, outcome, kind, now)

    def report(
        self, agent_id: str, key: LeaseKey, outcome: object, kind: str, refused: str, now: Instant
    ) -> None:
        """End an attempt by word from outside a stream.

        Raises:
            FailedPrecondition: STALE_LEASE, the task is another agent's.
            AlreadyExists: RESULT_CONFLICT, it differs from the one that is on its way.
        """
        board = self._board
        lease = board.leases.get(key) or board.leases.unsettled.get(key)
        if lease is None:
            self.pass_on(agent_id, key, outcome, refused=refused)
            return
        if lease.agent_id != agent_id or lease.lost:
            raise stale(key)
        if lease.stage is _ENDED:
            if lease.outcome != outcome:
                raise conflict(key)
            return
        if lease.stage is _OFFERED:
            self._take(lease, now)
        lease.refused = refused
        self._end(lease, outcome, kind, now)

    def pass_on(self, agent_id: str, key: LeaseKey, outcome: object, *, refused: str) -> None:
        """Let the scheduler judge an outcome of a lease that is not held here.

        Raises:
            ResourceExhausted: TOO_MANY_RESULTS wait for the scheduler.
        """
        board = self._board
        if len(board.leases.unsettled) >= unsettled_len_max:
            raise ResourceExhausted(
                "TOO_MANY_RESULTS",
                f"{unsettled_len_max} results wait for the scheduler; repeat this one later.",
                metadata={"results_max": str(unsettled_len_max)},
                retry_after_s=1.0,
            )
        lease = Lease(*key)
        lease.agent_id = agent_id
        lease.stage = _ENDED
        lease.outcome = outcome
        lease.refused = refused
        board.leases.unsettled[key] = lease
        board.effects.append(Ended(lease))

    # From inside.

    def give_up(self, lease: Lease, now: Instant) -> None:
        """End a lease whose agent is gone."""
        if lease.stage is _STOPPING:
            self._board.unbind(lease)
            self._board.leases.drop(lease)
        elif lease.stage is _OFFERED:
            # Named, so that the task goes elsewhere first: it may be what the agent died of.
            self.hand_back(lease, "AGENT_GONE", lease.agent_id, now)
        else:
            lease.lost = True
            self._end(lease, None, "LOST", now)

    def hand_back(self, lease: Lease, reason: str, agent_id: str, now: Instant) -> None:
        """Return a lease that no attempt began under."""
        self.handed_back += 1
        self._board.hand_back(lease, reason, agent_id, now)

    def offer_again(self, lease: Lease) -> None:
        """Send an offer once more to an agent that came back and did not get it."""
        session = lease.session
        assert session is not None
        # Its time runs from the first offer: who comes and goes must not hold it for ever. It is
        # counted as a new one is, since counts began anew.
        session.assigned_total += 1
        self._board.effects.append(SendAssign(session, lease, lease.body))
        if session.stream is not None:
            self._board.queued(session.stream, lease.size_bytes)

    def pause(self, session: Session, seconds: float, now: Instant) -> None:
        """Give an agent nothing for a while."""
        session.paused = True
        session.paused_until_s = max(session.paused_until_s, now.mono_s + seconds)
        self._board.looks.at(session.paused_until_s, session)

    def expire_offers(self, now: Instant) -> None:
        """Take back offers that no agent has acked in time."""
        board = self._board
        due_s = now.mono_s - board.limits.ack_s
        offered = board.leases.offered
        while offered and offered[0][0] <= due_s:
            offered_s, key = offered.popleft()
            lease = board.leases.get(key)
            if lease is None or lease.stage is not _OFFERED or lease.offered_s != offered_s:
                continue
            session = lease.session
            assert session is not None
            if session.stream is not None:
                board.effects.append(SendRecall(session, (key,)))
            self._tell_outcome(lease, "NOT_ACKED", now)
            self.pause(session, board.limits.ack_pause_s, now)
            self.hand_back(lease, "ACK_TIMEOUT", session.agent_id, now)
            board.fleet.refresh(session)

    def expire_stops(self, now: Instant) -> None:
        """Free the slots of tasks whose agents do not say that they stopped."""
        for lease in self._board.leases:
            if lease.stage is _STOPPING and lease.stop_due_s <= now.mono_s:
                self._board.unbind(lease)
                self._board.leases.drop(lease)

    def renew_own(self) -> None:
        """Keep alive what no agent renews yet: tasks that wait or were just offered."""
        stages = (Stage.WAITING, _OFFERED)
        keys = tuple(lease.key for lease in self._board.leases if lease.stage in stages)
        if keys:
            self._board.effects.append(Renewed(keys))

    def return_stranded(self, now: Instant) -> None:
        """Hand back tasks that no agent here can take any more."""
        board = self._board
        for lease in board.waiting.stranded(board.fleet.working_mask):
            self.hand_back(lease, "NO_AGENT", "", now)

    def _held(self, session: Session, key: LeaseKey, now: Instant) -> Lease | None:
        """Return a lease of an agent; one that is over is answered by Cancel."""
        board = self._board
        lease = board.leases.get(key)
        if lease is None:
            if key not in board.leases.unsettled:
                board.effects.append(SendCancel(session, *key, "LEASE_LOST"))
            return None
        if lease.session is not session:
            self._not_yours(session, key, now)
            return None
        return None if lease.stage is _STOPPING else lease

    def _not_yours(self, session: Session, key: LeaseKey, now: Instant) -> None:
        stream = session.stream
        assert stream is not None
        message = f"Task {key[0]} under lease {key[1]} belongs to another agent."
        self._board.effects.append(
            SendRefusal(stream.number, session.agent_id, "LEASE_NOT_YOURS", message, key[0], False)
        )
        stream.strike(now.mono_s, session.agent_id)

    def _run(self, lease: Lease, now: Instant) -> None:
        lease.stage = _RUNNING
        lease.acked_s = now.mono_s

    def _end(self, lease: Lease, outcome: object, kind: str, now: Instant) -> None:
        self.ended += 1
        if lease.offered_s:
            # Not from the Ack: that of a short or busy handler comes together with the result.
            lease.run_s = now.mono_s - lease.offered_s
        if lease.stage is not _STOPPING:
            self._tell_outcome(lease, kind, now)
        self._settle_later(lease, outcome)

    def _settle_later(self, lease: Lease, outcome: object) -> None:
        board = self._board
        board.unbind(lease)
        board.leases.drop(lease)
        lease.stage = _ENDED
        lease.body = None
        lease.outcome = outcome
        board.leases.unsettled[lease.key] = lease
        board.effects.append(ending(lease))

    def _tell_outcome(self, lease: Lease, kind: str, now: Instant) -> None:
        self._board.effects.append(
            Outcome(lease.agent_id, lease.task_id, lease.task_type, kind, lease.run_s, now.wall_ms)
        )
