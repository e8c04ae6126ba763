"""What becomes of the leases that an agent comes back with, and of those it does not name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from services.routing.core.assignment import Lease, Stage
from services.routing.core.board import Board
from services.routing.core.effects import CANCEL, KEEP, LOST, Claimed, LeaseKey, Renewed
from services.routing.core.session import Greeting, Session
from services.routing.core.work import Work

if TYPE_CHECKING:
    from services.kernel.instant import Instant

NOT_ITS_OWN = frozenset({"LEASE_LOST", "LEASE_EXPIRED"})
"""Why a lease ends while its task goes on, elsewhere perhaps: to its agent it is lost."""


def reconcile(
    board: Board,
    work: Work,
    session: Session,
    greeting: Greeting,
    now: Instant,
) -> None:
    """Compare what an agent says it has with what is known.

    An agent that moves to another stream goes on taking tasks on the one before until it is ready:
    Hello cannot name what was assigned after the last frame it had seen, and that it was acked says
    that the agent has it.

    Verdicts, claims and offers to repeat are left at the session, for Ready.
    """
    listed = dict.fromkeys(greeting.in_flight)
    seen_seq = greeting.last_seq if session.resumed and greeting.last_seq > 0 else math.inf
    session.verdicts = []
    session.claims = set()
    session.offers = []
    for key, lease in tuple(session.leases.items()):
        if key in listed:
            continue
        if lease.stage is Stage.OFFERED:
            session.offers.append(lease)
        elif lease.offered_seq > seen_seq:
            listed[key] = None
        else:
            work.give_up(lease, now)
    for key in listed:
        verdict = _verdict(board, work, session, key, now)
        if verdict:
            session.verdicts.append((*key, verdict))
    held = session.leases
    kept = tuple(key for key in listed if key in held and held[key].stage is Stage.RUNNING)
    if kept:
        # Its renewals may have been lost with the stream; that it names them is as good.
        board.effects.append(Renewed(kept))
    if session.claims and not board.dispatch_up:
        # Nobody to ask for now: it goes on, and the scheduler hears of it when it is back.
        unheard = {key for key in session.claims if not board.is_up(key[0])}
        session.verdicts.extend((*key, KEEP) for key in unheard)
        session.claims -= unheard
    if session.claims:
        board.effects.append(Claimed(session.agent_id, tuple(session.claims)))


def _verdict(board: Board, work: Work, session: Session, key: LeaseKey, now: Instant) -> int:
    """Return what is to become of a lease an agent came with; 0 when the scheduler must say."""
    lease = session.leases.get(key)
    if lease is not None:
        if lease.stage is Stage.OFFERED:
            work.begin(lease, now)
        if lease.stage is not Stage.STOPPING:
            return KEEP
        if lease.stop_reason not in NOT_ITS_OWN:
            return CANCEL
        # Nobody waits for a word about it, so its slot is free.
        work.give_up(lease, now)
        return LOST
    ended = board.leases.unsettled.get(key)
    if ended is not None:
        mine = ended.agent_id == session.agent_id and not ended.lost
        return KEEP if mine else LOST
    if board.leases.get(key) is not None:
        return LOST
    lease = Lease(*key)
    lease.stage = Stage.CLAIMED
    board.leases.add(lease)
    board.bind(lease, session)
    session.claims.add(key)
    return 0
