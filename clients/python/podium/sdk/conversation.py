"""What a session says and understands: pure, with neither stream nor clock.

`Session` moves the frames; this decides which ones, and keeps what must outlive a stream: leases,
outcomes that are not settled, resume tokens, positions, intervals.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from podium.sdk.errors import AgentSuperseded, InvalidArgument, PermissionDenied, PodiumError
from podium.sdk.identity import Identity
from podium.sdk.leases import Key, Lease, LeaseTable
from podium.sdk.slots import Slots
from podium.v1 import session_pb2
from podium.v1.session_pb2 import AgentFrame, RouterFrame

log = logging.getLogger("podium.sdk.session")

# Refusals after which a lease is not this agent's any more.
LEASE_REFUSALS = frozenset({"STALE_LEASE", "LEASE_NOT_YOURS"})
# Refusals of a Hello that saying it again does not mend.
HELLO_REFUSALS: dict[str, type[PodiumError]] = {
    "INVALID_FIELD": InvalidArgument,
    "AGENT_NOT_YOURS": PermissionDenied,
    "CAPABILITY_NOT_GRANTED": PermissionDenied,
}

# What is at least so large is only shown, and waits where the router does not keep up.
BULK_BYTES_MIN = 4_096

Outgoing = tuple[str, Key, AgentFrame]
"""Kind of a frame (ack, nack, progress, checkpoint, result, need_input), its lease, the frame.

Of these the frames are empty: "ask" is for the router's word on a lease that the work waits for,
"stuck" that a task goes on although it is over, "stopped" that such a one has ended.
"""

NOTES = frozenset({"ask", "stuck", "stopped"})


class Received:
    """What follows from frames of the router; each message has one, and most of it is rare."""

    # Agents that this stream has accepted, or that are superseded: none is waited for.
    welcomed: tuple[str, ...] = ()
    # Refusals that are the answer to Hello, if one was said and not answered.
    refused: tuple[tuple[str, PodiumError], ...] = ()
    # Agents whose session the router has closed: they say Hello again, but not at once.
    closed: tuple[str, ...] = ()
    # How long the router asks some of them to stay away, in seconds.
    away_s: Mapping[str, float] = MappingProxyType({})
    # Set when the router asks to move: an address, or "" for the usual one.
    move_to: str | None = None
    # Whether it lets nobody in any more, so that another one must be found.
    turned_away: bool = False
    # Whether intervals may have changed.
    tuned: bool = False

    def __init__(self) -> None:
        # Assign, Cancel and Input, and RenewAck of what was asked, for whoever does the work.
        self.work: list[RouterFrame] = []
        # To be sent on the same stream.
        self.replies: list[AgentFrame] = []


class Conversation:
    """The agents of one session, over all its streams."""

    def __init__(self, identities: Iterable[Identity]) -> None:
        self.identities = {identity.agent_id: identity for identity in identities}
        self.leases = LeaseTable()
        self.draining = ""
        self.superseded: AgentSuperseded | None = None
        self.heartbeat_s = 15.0
        self.renew_s = 10.0
        # How long a lease lives that is not renewed; 0 = the router did not say.
        self.lease_s = 0.0
        self.frame_bytes_max = 0
        # Agents without a session on a stream that is open: until Ready they say nothing but Hello.
        self.closed: set[str] = set()
        self.verdict_counts = dict.fromkeys(session_pb2.ResultAck.Verdict.values(), 0)
        self._tokens: dict[str, str] = {}
        self._seqs: dict[str, int] = {}
        self.slots = Slots(self.leases)
        self._unnamed: dict[str, list[Key]] = {}
        self._spoke_s: dict[str, float] = {}
        self._rare = {
            "ready": self._on_ready,
            "renew_ack": self._on_renew_ack,
            "recall": self._on_recall,
            "cancel": self._on_cancel,
            "input": self._on_work,
            "probe": self._on_probe,
            "tune": self._on_tune,
            "drain": self._on_drain,
            "superseded": self._on_superseded,
            "refusal": self._on_refusal,
        }

    # --- What the agents say ---------------------------------------------------------------

    def hellos(self) -> list[AgentFrame]:
        """Returns the first frames of a stream: each agent with all that it has in work."""
        return [self.hello(agent_id) for agent_id in self.identities]

    def hello(self, agent_id: str) -> AgentFrame:
        """Returns the first frame of an agent, with what it has in work."""
        named, self._unnamed[agent_id] = self.leases.named(agent_id)
        token, seq = self._tokens.get(agent_id, ""), self._seqs.get(agent_id, 0)
        draining = bool(self.draining)
        return self.identities[agent_id].hello(named, token, seq, draining=draining)

    def say(self, items: Sequence[Outgoing], now_s: float, *, brief: bool) -> list[AgentFrame]:
        """Returns what of `items` may be sent: nothing about a lease that is over.

        Args:
            items: what the agents say, in order.
            now_s: the monotonic clock.
            brief: leave progress out, since the router does not keep up.
        """
        leases = self.leases
        frames: list[AgentFrame] = []
        notes: list[Outgoing] = []
        for kind, key, frame in items:
            if kind == "result" or kind == "need_input":
                if not leases.finish(key, frame):
                    continue
            elif kind in NOTES:
                notes.append((kind, key, frame))
                continue
            elif (lease := leases.get(key)) is None or (brief and kind == "progress"):
                continue
            elif kind == "ack":
                lease.acked = True
            elif kind == "nack":
                leases.forget(key)
            self._spoke_s[frame.agent_id] = now_s
            frames.append(frame)
        if notes:
            frames += self._noted(notes, now_s)
        if self.slots.counted:
            frames += self.slots.credits(self.identities)
        return self._heard(frames)

    def _noted(self, notes: list[Outgoing], now_s: float) -> list[AgentFrame]:
        for kind, key, frame in notes:
            if kind != "ask":
                self.slots.note(frame.agent_id, key, stuck=kind == "stuck")
        return self.leases.questions([key for kind, key, _ in notes if kind == "ask"], now_s)

    def due(self, now_s: float, period_s: float) -> list[AgentFrame]:
        """Returns the renewals and heartbeats that cannot wait for another period.

        A heartbeat is for those that said nothing else: whatever they say is a sign of life.
        """
        frames = self.leases.renewals(now_s, self.renew_s - period_s)
        for frame in frames:
            self._spoke_s[frame.agent_id] = now_s
        for agent_id in self.identities:
            if now_s - self._spoke_s.get(agent_id, 0.0) >= self.heartbeat_s - period_s:
                self._spoke_s[agent_id] = now_s
                frames.append(AgentFrame(agent_id=agent_id, heartbeat=session_pb2.Heartbeat()))
        return self._heard(frames)

    def unanswered(self, now_s: float) -> bool:
        """Tells whether the stream looks open and its router does not hear what is said on it.

        Renewals have had no answer for as long as a lease lives.
        """
        lived_s = self.lease_s
        return lived_s > 0 and self.leases.unanswered(now_s, lived_s, self.closed)

    def _heard(self, frames: list[AgentFrame]) -> list[AgentFrame]:
        """Leaves out what nobody would hear: it is said by Hello, or again after Ready."""
        if not self.closed:
            return frames
        return [frame for frame in frames if frame.agent_id not in self.closed]

    def shut_out(self, agent_id: str, error: PodiumError) -> PodiumError:
        """Keeps an agent still whose Hello is refused until it says the next; returns the error."""
        self.closed.add(agent_id)
        log.error("agent %s is not at work, its Hello is refused: %s", agent_id, error)
        return error

    def drains(self, *agent_ids: str) -> list[AgentFrame]:
        """Returns the Drain of these agents, or of all."""
        drain = session_pb2.AgentDrain(reason=self.draining)
        named = agent_ids or self.identities
        return self._heard([AgentFrame(agent_id=agent_id, drain=drain) for agent_id in named])

    def goodbyes(self) -> list[AgentFrame]:
        """Returns the last frames of the session."""
        goodbye = session_pb2.Goodbye(reason=self.draining)
        named = self.identities
        return self._heard([AgentFrame(agent_id=agent_id, goodbye=goodbye) for agent_id in named])

    # --- What the router says --------------------------------------------------------------

    def receive(self, frames: Iterable[RouterFrame], now_s: float) -> Received:
        """Takes frames of the router in order and returns what follows."""
        received = Received()
        leases, seqs, work, taken = self.leases, self._seqs, received.work, self.slots.taken
        for frame in frames:
            kind = frame.WhichOneof("frame")
            agent_id = frame.agent_id
            if frame.seq:
                seqs[agent_id] = frame.seq
            if kind == "assign":
                assign = frame.assign
                taken[agent_id] += 1
                key = (assign.task_id, assign.lease_epoch)
                if self.draining and key not in leases:
                    received.replies.append(_declined(agent_id, assign))
                elif leases.add(agent_id, key, now_s):
                    work.append(frame)
                else:
                    received.replies += self._again(agent_id, assign)
            elif kind == "result_ack":
                ack = frame.result_ack
                # Of a later version it may be one that is not known here.
                self.verdict_counts[ack.verdict] = self.verdict_counts.get(ack.verdict, 0) + 1
                leases.forget((ack.lease.task_id, ack.lease.lease_epoch))
            elif kind is not None:
                self._rare[kind](frame, received, now_s)
        if self.slots.counted:
            received.replies += self._heard(self.slots.credits(self.identities))
        return received

    def _again(self, agent_id: str, assign: session_pb2.Assign) -> list[AgentFrame]:
        """Returns what was said of an assignment that comes again: it went down with a stream."""
        lease = self.leases.get((assign.task_id, assign.lease_epoch))
        assert lease is not None, "it is held"
        if lease.final is not None:
            return [lease.final]
        ack = session_pb2.Ack(lease=lease.ref)
        return [AgentFrame(agent_id=agent_id, ack=ack)] if lease.acked else []

    def _on_work(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        received.work.append(frame)

    def _on_cancel(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        ref = frame.cancel.lease
        if frame.cancel.reason == "LEASE_LOST":
            self._lose(frame.agent_id, ref, received, now_s)
        else:
            self.leases.stop((ref.task_id, ref.lease_epoch))
            received.work.append(frame)

    def _on_ready(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        ready, agent_id = frame.ready, frame.agent_id
        self._tokens[agent_id] = ready.resume_token
        self._seqs[agent_id] = frame.seq
        self._spoke_s[agent_id] = now_s
        self.closed.discard(agent_id)
        self.slots.begin(agent_id)
        self.leases.forgive(agent_id)
        self._set_intervals(ready)
        self.lease_s = ready.lease_ttl.ToTimedelta().total_seconds()
        received.tuned = True
        self.frame_bytes_max = ready.frame_bytes_max
        for verdict in ready.verdicts:
            self._on_verdict(agent_id, verdict, received, now_s)
        for key in self._unnamed.pop(agent_id, ()):
            if (final := self.leases.final(key)) is not None:
                received.replies.append(final)
        if self.draining:
            received.replies += self.drains(agent_id)
        received.welcomed += (agent_id,)

    def _on_verdict(
        self, agent_id: str, verdict: session_pb2.LeaseVerdict, received: Received, now_s: float
    ) -> None:
        key = (verdict.lease.task_id, verdict.lease.lease_epoch)
        final = self.leases.final(key)
        if verdict.verdict == session_pb2.LeaseVerdict.VERDICT_KEEP:
            if self.leases.hold(key, now_s):
                received.work.append(_held(agent_id, verdict.lease))
            if final is not None:
                received.replies.append(final)
        elif verdict.verdict == session_pb2.LeaseVerdict.VERDICT_CANCEL and final is None:
            reason = self._why_over(self.leases.get(key), "CANCELED", now_s)
            received.work.append(_cancel(agent_id, verdict.lease, reason))
        else:
            self._lose(agent_id, verdict.lease, received, now_s)

    def _on_renew_ack(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        for ref in frame.renew_ack.held:
            if self.leases.hold((ref.task_id, ref.lease_epoch)):
                received.work.append(_held(frame.agent_id, ref))
        for ref in frame.renew_ack.lost:
            self._lose(frame.agent_id, ref, received, now_s)

    def _on_recall(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        for ref in frame.recall.leases:
            self._lose(frame.agent_id, ref, received, now_s)

    def _on_probe(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        reply = session_pb2.ProbeReply(nonce=frame.probe.nonce)
        received.replies.append(AgentFrame(agent_id=frame.agent_id, probe_reply=reply))
        self._spoke_s[frame.agent_id] = now_s

    def _on_tune(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        self._set_intervals(frame.tune)
        received.tuned = True

    def _on_drain(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        received.move_to = frame.drain.address

    def _on_superseded(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        agent_id = frame.agent_id
        self.identities.pop(agent_id, None)
        self.closed.discard(agent_id)
        for ref in self.leases.of(agent_id):
            self._lose(agent_id, ref, received, now_s)
        received.welcomed += (agent_id,)
        self.superseded = AgentSuperseded(
            "SUPERSEDED",
            f"Agent {agent_id} was started again elsewhere (instance"
            f" {frame.superseded.instance_id}), so this one stops. Give each running agent an"
            " agent_id of its own.",
            metadata={"agent_id": agent_id},
        )
        log.error("%s", self.superseded)

    def _on_refusal(self, frame: RouterFrame, received: Received, now_s: float) -> None:
        agent_id, refusal = frame.agent_id, frame.refusal
        log.warning("refused, agent %s: %s: %s", agent_id, refusal.reason, refusal.message)
        if (error := HELLO_REFUSALS.get(refusal.reason)) is not None and not refusal.task_id:
            received.refused += ((agent_id, error(refusal.reason, refusal.message)),)
        if refusal.closing and agent_id in self.identities:
            # Its session is over and the stream is not: without a Hello it would look alive and
            # get nothing. Said at once it would be refused as fast as the two can talk.
            self.closed.add(agent_id)
            received.closed += (agent_id,)
            if refusal.HasField("retry_after"):
                away_s = refusal.retry_after.ToTimedelta().total_seconds()
                received.away_s = {**received.away_s, agent_id: away_s}
            received.turned_away = received.turned_away or refusal.reason == "DRAINING"
        if refusal.reason in LEASE_REFUSALS:
            for task_id, epoch in self.leases.of_task(agent_id, refusal.task_id):
                ref = session_pb2.LeaseRef(task_id=task_id, lease_epoch=epoch)
                self._lose(agent_id, ref, received, now_s)

    def _lose(
        self, agent_id: str, ref: session_pb2.LeaseRef, received: Received, now_s: float
    ) -> None:
        lease = self.leases.forget((ref.task_id, ref.lease_epoch))
        reason = self._why_over(lease, "LEASE_LOST", now_s)
        received.work.append(_cancel(agent_id, ref, reason))

    def _why_over(self, lease: Lease | None, otherwise: str, now_s: float) -> str:
        # Who was frozen, or cut off for so long, is to know that it was that.
        expired = lease is not None and 0 < self.lease_s <= now_s - lease.held_s
        return "LEASE_EXPIRED" if expired else otherwise

    def _set_intervals(self, frame: session_pb2.Ready | session_pb2.Tune) -> None:
        if heartbeat_s := frame.heartbeat_interval.ToTimedelta().total_seconds():
            self.heartbeat_s = heartbeat_s
        if renew_s := frame.renew_interval.ToTimedelta().total_seconds():
            self.renew_s = renew_s


def is_bulk(item: Outgoing) -> bool:
    """Tells whether what an agent says is a large piece of a result."""
    kind, _, frame = item
    return kind == "progress" and len(frame.progress.partial.data) >= BULK_BYTES_MIN


def _declined(agent_id: str, assign: session_pb2.Assign) -> AgentFrame:
    """Returns the answer of an agent that drains: the task goes elsewhere, no attempt is spent."""
    lease = session_pb2.LeaseRef(task_id=assign.task_id, lease_epoch=assign.lease_epoch)
    nack = session_pb2.Nack(lease=lease, reason=session_pb2.Nack.REASON_DRAINING)
    return AgentFrame(agent_id=agent_id, nack=nack)


def _cancel(agent_id: str, ref: session_pb2.LeaseRef, reason: str) -> RouterFrame:
    return RouterFrame(agent_id=agent_id, cancel=session_pb2.Cancel(lease=ref, reason=reason))


def _held(agent_id: str, ref: session_pb2.LeaseRef) -> RouterFrame:
    return RouterFrame(agent_id=agent_id, renew_ack=session_pb2.RenewAck(held=[ref]))
