"""Who is here: streams and sessions from Hello to the end, liveness, drain.

A session outlives its stream by a short grace, in which the agent may come back with its tasks.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from services.kernel.errors import FailedPrecondition
from services.routing.core.assignment import Stage
from services.routing.core.board import Board
from services.routing.core.effects import (
    KEEP,
    Closed,
    SendDrain,
    SendReady,
    SendRefusal,
    SendSuperseded,
)
from services.routing.core.reconcile import reconcile
from services.routing.core.refusals import too_many
from services.routing.core.session import Greeting, Session, Stream, retry_s, struck_message
from services.routing.core.standing import Standings
from services.routing.core.work import Work

if TYPE_CHECKING:
    from services.kernel.instant import Instant


class Attendance:
    """The streams and sessions of a router."""

    def __init__(self, board: Board, work: Work, standings: Standings) -> None:
        self._board = board
        self._work = work
        self._standings = standings
        self._departed: deque[tuple[float, Session]] = deque()
        self._claiming: set[Session] = set()

    # Streams.

    def open_stream(self, number: int) -> Stream:
        """Take a stream in."""
        stream = self._board.streams[number] = Stream(number)
        return stream

    def close_stream(self, number: int, now: Instant) -> None:
        """Let a stream go; its agents may come back within the grace."""
        stream = self._board.streams.pop(number, None)
        for session in tuple(stream.agents.values()) if stream else ():
            self.detach(session, now)

    # Sessions.

    def hello(self, number: int, greeting: Greeting, now: Instant) -> None:
        """Begin, resume or take over the session of an agent.

        Raises:
            ResourceExhausted: TOO_MANY_AGENTS, here or on this stream.
        """
        board = self._board
        stream = board.streams[number]
        if board.draining:
            message = "This router drains; open a stream to another one."
            refusal = SendRefusal(number, greeting.agent_id, "DRAINING", message, "", True)
            board.effects.append(refusal)
            return
        current = stream.agents.get(greeting.agent_id)
        if current is not None and current.instance_id == greeting.instance_id:
            self.refuse(stream, greeting.agent_id, "HELLO_REPEATED", "Hello was said before.", now)
            return
        known = board.sessions.get(greeting.agent_id)
        if known is not None and known.stream is not stream:
            newer = known.bars(greeting.instance_id)
            if newer:
                self._turn_away(stream, greeting, newer, now)
                return
        self._check_room(stream, known)
        # The registry has told everything about it until now.
        sure = known is not None and known.stream is not None and not known.asked
        if known is not None and known.instance_id == greeting.instance_id:
            session = self._resume(known, greeting, now)
        else:
            session = self._new(greeting, now)
            if known is not None:
                self._supersede(known, session, greeting, now)
            board.sessions[greeting.agent_id] = session
        session.draining = session.draining or greeting.draining
        self._attach(session, stream, now, sure=sure)
        reconcile(board, self._work, session, greeting, now)
        if not session.claims:
            self.make_ready(session)
        else:
            session.claim_due_s = now.mono_s + board.limits.claim_s
            self._claiming.add(session)

    def speaker(self, number: int, agent_id: str, now: Instant) -> Session | None:
        """Return the session of an agent that speaks; None when what it says no longer counts.

        Raises:
            FailedPrecondition: HELLO_REQUIRED, it never said Hello on this stream.
        """
        stream = self._board.streams[number]
        session = stream.agents.get(agent_id)
        if session is None:
            if agent_id in stream.greeted:
                return None
            raise FailedPrecondition(
                "HELLO_REQUIRED",
                "The first frame of an agent on a stream must be Hello.",
                metadata={"agent_id": agent_id[:64]},
            )
        session.heard_s = now.mono_s
        if session.silent:
            session.silent = False
            self._board.fleet.refresh(session)
        return session

    def unheard(self, number: int, agent_id: str, now: Instant) -> None:
        """Tell a process that goes on speaking after another one took its session over."""
        if not self._board.streams[number].has_twin(agent_id, now.mono_s):
            return
        current = self._board.sessions.get(agent_id)
        if current is not None and current.stream is not None:
            # A copy numbers the frame: it is none of the session's own.
            effect = SendSuperseded(number, replace(current), current.instance_id)
            self._board.effects.append(effect)
        else:
            message = "Another stream took the session over and is gone; say Hello again."
            self._board.effects.append(
                SendRefusal(number, agent_id, "HELLO_REQUIRED", message, "", True)
            )

    def refuse(
        self,
        stream: Stream,
        agent_id: str,
        reason: str,
        message: str,
        now: Instant,
        task_id: str = "",
    ) -> None:
        """Answer a frame by Refusal and count it.

        Raises:
            ResourceExhausted: TOO_MANY_STRIKES.
        """
        self._board.effects.append(
            SendRefusal(stream.number, agent_id, reason, message, task_id, False)
        )
        # Who speaks for others is at fault, not they.
        stream.strike(now.mono_s, "" if reason == "AGENT_NOT_YOURS" else agent_id)

    def strike_out(self, stream: Stream, now: Instant) -> None:
        """End the sessions of agents of which too many frames were refused."""
        struck, stream.struck = stream.struck, []
        for agent_id in struck:
            session = stream.agents.pop(agent_id, None)
            if session is not None:
                number, message = stream.number, struck_message
                self._board.effects.append(
                    SendRefusal(number, agent_id, "TOO_MANY_STRIKES", message, "", True, retry_s)
                )
                self.detach(session, now)

    def credit(self, session: Session, total: int) -> None:
        """Raise what an agent accepts; it never falls."""
        session.credit_total = max(session.credit_total or 0, total)
        self._board.fleet.refresh(session)

    def drain_agent(self, session: Session) -> None:
        """Give an agent nothing new for the rest of its session."""
        session.draining = True
        self._board.fleet.refresh(session)

    def goodbye(self, session: Session, now: Instant) -> None:
        """End a session in order; nothing of it is kept."""
        stream = session.stream
        assert stream is not None
        del stream.agents[session.agent_id]
        session.stream = None
        self._board.effects.append(Closed(session.agent_id, True))
        self._end(session, now)

    def lost(self, session: Session, now: Instant) -> None:
        """Treat an agent behind a bridge as one whose stream is gone."""
        stream = session.stream
        assert stream is not None
        del stream.agents[session.agent_id]
        self.detach(session, now)

    def probe_reply(self, session: Session, nonce: int, now: Instant) -> None:
        """Note that the way down to an agent works."""
        if nonce == session.probe_nonce:
            session.probe_sent_s = None
            session.proved_s = now.mono_s
            if session.unproved:
                session.unproved = False
                self._board.fleet.refresh(session)

    def rivals(
        self, agent_id: str, instance_id: str, superseded: tuple[str, ...], now: Instant
    ) -> None:
        """Follow the registry, which sees all routers, on which instance of an agent stays."""
        session = self._board.sessions.get(agent_id)
        if session is None or session.superseded_by:
            return
        if session.instance_id == instance_id:
            session.followed(superseded)
        elif session.instance_id in superseded and instance_id not in session.superseded:
            if session.stream is not None:
                self._board.effects.append(Closed(agent_id, False))
            session.superseded_by = instance_id
            self._give_way(session, instance_id, now)

    def drain(self, deadline_wall_ms: int, now: Instant) -> None:
        """Take nothing new, give back what no agent has begun, and ask all agents to move."""
        board = self._board
        board.draining = True
        board.fleet.changed.update(board.fleet.classes.values())
        for lease in board.leases:
            if lease.stage is Stage.WAITING:
                self._work.hand_back(lease, "ROUTER_DRAINING", "", now)
        for number in board.streams:
            board.effects.append(SendDrain(number, deadline_wall_ms))

    # Time.

    def tick(self, now: Instant) -> None:
        """End what is due: graces, pauses and waits for the scheduler's word."""
        board = self._board
        while self._departed and self._departed[0][0] <= now.mono_s:
            due_s, session = self._departed.popleft()
            detached_s = session.detached_s
            # It may have come back, and gone again, meanwhile.
            if session.stream is None and detached_s is not None:
                if detached_s + board.limits.detach_grace_s <= due_s:
                    self._end(session, now)
        for session in [s for s in self._claiming if s.claim_due_s <= now.mono_s]:
            if session.stream is not None and not session.ready:
                session.verdicts.extend((*key, KEEP) for key in session.claims)
                self.make_ready(session)
            self._claiming.discard(session)

    # Inside.

    def _check_room(self, stream: Stream, known: Session | None) -> None:
        limits = self._board.limits
        if known is None and len(self._board.sessions) >= limits.agents_max:
            raise too_many(f"This router has {limits.agents_max} agents.", limits.agents_max)
        if len(stream.agents) >= limits.stream_agents_max:
            most = limits.stream_agents_max
            raise too_many(f"This stream has {most} agents; open another.", most)

    def _new(self, greeting: Greeting, now: Instant) -> Session:
        token = self._board.token()
        return Session(
            agent_id=greeting.agent_id,
            instance_id=greeting.instance_id,
            session_id=token[:12],
            resume_token=token,
            name=greeting.name,
            capabilities=greeting.capabilities,
            max_concurrency=greeting.max_concurrency,
            cost_per_task=greeting.cost_per_task,
            body=greeting.body,
            versions=greeting.versions,
            heard_s=now.mono_s,
            since_s=now.mono_s,
        )

    def _resume(self, session: Session, greeting: Greeting, now: Instant) -> Session:
        session.resumed = greeting.resume_token == session.resume_token
        if session.stream is not None:
            # The stream before is half open: it has not been seen to end yet.
            session.stream.take_from(session.agent_id, now.mono_s)
            session.stream = None
        if not session.resumed:
            session.resume_token = self._board.token()
            session.session_id = session.resume_token[:12]
            session.renumber()
        # Counts begin anew with each Ready, whatever was resumed: an assignment that was lost with
        # the stream was counted here and not there, and would be owed for ever.
        session.credit_total = None
        session.assigned_total = 0
        if session.row >= 0:
            self._leave(session)
        session.name, session.capabilities = greeting.name, greeting.capabilities
        session.max_concurrency = greeting.max_concurrency
        session.cost_per_task = greeting.cost_per_task
        session.body, session.versions = greeting.body, greeting.versions
        return session

    def _supersede(self, old: Session, new: Session, greeting: Greeting, now: Instant) -> None:
        """Take over from an older instance, with the leases the newer one says it has."""
        board = self._board
        new.follow(old)
        self._give_way(old, greeting.instance_id, now)
        for key in greeting.in_flight:
            lease = old.leases.get(key)
            if lease is not None:
                board.unbind(lease)
                lease.session = new
                lease.offered_seq = 0
                new.leases[key] = lease
                new.load += 1

    def _give_way(self, old: Session, instance_id: str, now: Instant) -> None:
        """End an older instance; its leases are for the newer one to claim within the grace."""
        board = self._board
        if old.stream is not None:
            del old.stream.agents[old.agent_id]
            board.effects.append(SendSuperseded(old.stream.number, old, instance_id))
            old.stream = None
            old.detached_s = now.mono_s
            self._departed.append((now.mono_s + board.limits.detach_grace_s, old))
        board.on_probation.pop(old, None)
        if old.row >= 0:
            self._leave(old)

    def _turn_away(self, stream: Stream, greeting: Greeting, newer: str, now: Instant) -> None:
        """Tell an instance that comes back that a newer one has followed it."""
        if greeting.agent_id in stream.greeted:
            stream.strike(now.mono_s, greeting.agent_id)
        stream.greet(greeting.agent_id)
        # The session only numbers the frame: nobody will ever find it.
        effect = SendSuperseded(stream.number, self._new(greeting, now), newer)
        self._board.effects.append(effect)

    def _attach(self, session: Session, stream: Stream, now: Instant, *, sure: bool) -> None:
        board = self._board
        session.stream = stream
        session.detached_s = None
        session.heard_s = session.proved_s = now.mono_s
        session.probe_sent_s = None
        session.silent = session.ready = session.unproved = False
        session.stalled = stream.stalled_s is not None
        stream.agents[session.agent_id] = session
        stream.taken_s.pop(session.agent_id, None)
        stream.greet(session.agent_id)
        self._standings.come(session, now, sure=sure)
        row = board.fleet.join(session)
        board.fleet.busy_slots += session.load
        if board.model is not None:
            board.fleet.model_row[row] = board.model.rows.get(session.agent_id, -1)
        board.demands.joined(session)

    def make_ready(self, session: Session) -> None:
        """Let an agent begin."""
        session.ready = True
        verdicts = tuple(session.verdicts)
        session.verdicts = []
        lease_s = self._board.lease_s
        session.heartbeat_s = self._board.heartbeat_s
        self._board.effects.append(SendReady(session, verdicts, session.resumed, lease_s))
        self._board.looks.at(-math.inf, session)
        self._claiming.discard(session)
        self._board.fleet.refresh(session)
        offers, session.offers = session.offers, []
        for lease in offers:
            if lease.session is session and lease.stage is Stage.OFFERED:
                self._work.offer_again(lease)

    def detach(self, session: Session, now: Instant) -> None:
        """Note that the way to an agent is gone; it may come back within the grace."""
        board = self._board
        session.stream = None
        session.detached_s = now.mono_s
        board.fleet.refresh(session)
        board.effects.append(Closed(session.agent_id, False))
        self._departed.append((now.mono_s + board.limits.detach_grace_s, session))

    def _leave(self, session: Session) -> None:
        row = session.row
        self._board.fleet.leave(session)
        self._board.demands.left(row)

    def _end(self, session: Session, now: Instant) -> None:
        """Forget a session; its tasks are lost, unless this router is the one that goes."""
        board = self._board
        board.on_probation.pop(session, None)
        if session.row >= 0:
            self._leave(session)
        if board.sessions.get(session.agent_id) is session:
            del board.sessions[session.agent_id]
        self._claiming.discard(session)
        for lease in tuple(session.leases.values()):
            at_work = lease.stage in (Stage.RUNNING, Stage.CLAIMED)
            if board.draining and at_work and not session.superseded_by:
                # The agent goes on with it at another router, which will claim it.
                board.unbind(lease)
                board.leases.drop(lease)
            else:
                self._work.give_up(lease, now)
