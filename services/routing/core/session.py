"""An agent's session and the stream it speaks on: facts and small rules, no flow."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from services.kernel.errors import ResourceExhausted
from services.routing.core.fleet import Block

if TYPE_CHECKING:
    from services.routing.core.assignment import Lease
    from services.routing.core.effects import LeaseKey
    from services.routing.core.fleet import CapabilityClass

strikes_max = 16
strikes_s = 60.0
struck_len_max = 4_096
"""Agents of a stream whose strikes are remembered."""
struck_message = f"{strikes_max} frames were refused within a minute; mend the agent."
retry_s = 5.0
"""How long an agent that was sent away for what it did, or for want of room, should stay away."""
greeted_len_max = 10_000
"""Agents of a stream of which it is remembered that they ever said Hello."""
twin_s = 10.0
"""Whoever still speaks on a stream so long after another one took its session is not the same
process: one that moves, or has lost a stream, is done with it."""
superseded_len_max = 8
"""Superseded instances that are remembered of an agent; the oldest are forgotten."""
session_bytes_max = 1 << 20
"""Bytes that may wait for an agent before it gets nothing more: a slow reader costs no more."""
stream_bytes_max = 16 << 20
"""The same for all agents of a stream."""

_OPEN = Block.OPEN  # named once, as in `work`


@dataclass(frozen=True)
class Limits:
    """Times and bounds of sessions."""

    heartbeat_s: float = 15.0
    lease_s: float = 30.0
    """How long a lease lives without renewal, until the scheduler has said so."""
    ack_s: float = 5.0
    detach_grace_s: float = 1.5
    probe_s: float = 30.0
    pause_s: float = 0.25
    """How long an agent that declined, or an agent a task should avoid, is left alone."""
    ack_pause_s: float = 5.0
    """How long an agent that never acked gets nothing."""
    directive_s: float = 0.3
    """How long an agent that comes waits for the registry's word before it gets work."""
    registry_s: float = 2.0
    """The same while a router that has just begun has not reached the registry yet."""
    claim_s: float = 1.0
    """How long Ready waits for the scheduler's word on leases from before."""
    stall_s: float = 10.0
    stop_s: float = 10.0
    """How long an agent may take to stop a task before its slot counts as free."""
    hellos_per_s: float = 2_000.0
    """Hellos that are let in; those above it wait."""
    hellos_burst: float = 100.0
    """Of them at once, when few came before."""
    hello_wait_s: float = 3.0
    """How long a Hello may wait; an agent that would wait for longer is asked to come back."""
    agents_max: int = 10_000
    stream_agents_max: int = 5_000


class Greeting(NamedTuple):
    """What Hello says, checked."""

    agent_id: str
    instance_id: str
    name: str
    capabilities: dict[str, float]
    max_concurrency: int
    cost_per_task: float
    in_flight: tuple[LeaseKey, ...]
    resume_token: str
    body: object
    """The Hello itself, for the registry."""
    versions: tuple[str, ...] = ()
    """Versions of capabilities, as `name@2.1`."""
    last_seq: int = 0
    """The last frame it had seen when it said so; 0 when it does not say."""
    draining: bool = False
    """Whether it takes nothing new."""


class Stream:
    """One stream of frames, of one agent or of many."""

    __slots__ = (
        "agents",
        "closing",
        "full",
        "greeted",
        "number",
        "queued_bytes",
        "stalled_s",
        "strikes",
        "struck",
        "taken_s",
        "waiting",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.agents: dict[str, Session] = {}
        """Sessions attached to it."""
        self.greeted: set[str] = set()
        """Agents that ever said Hello on it."""
        self.waiting: set[str] = set()
        """Agents whose Hello waits to be let in."""
        self.taken_s: dict[str, float] = {}
        """Agents whose session another stream has taken over, and when."""
        self.strikes: dict[str, deque[float]] = {}
        """When frames were refused, by agent; "" = for the stream itself."""
        self.struck: list[str] = []
        """Agents that had too many."""
        self.stalled_s: float | None = None
        """Since when its reader is behind."""
        self.closing = False
        self.queued_bytes = 0
        """Bytes of frames that wait for the reader; short frames are not counted."""
        self.full = False
        """Whether they were too many and are still more than half as many."""

    @property
    def room_bytes(self) -> int:
        """Bytes that may wait for its agents before they get nothing more."""
        return min(stream_bytes_max, session_bytes_max * max(1, len(self.agents)))

    def greet(self, agent_id: str) -> None:
        """Note that an agent has said Hello on it."""
        if len(self.greeted) >= greeted_len_max:
            self.greeted = {*self.agents, *self.waiting}
        self.greeted.add(agent_id)

    def take_from(self, agent_id: str, now_s: float) -> None:
        """Note that another stream takes over the session of an agent, which is live on this."""
        del self.agents[agent_id]
        self.taken_s.pop(agent_id, None)
        if len(self.taken_s) >= greeted_len_max:
            del self.taken_s[next(iter(self.taken_s))]
        self.taken_s[agent_id] = now_s

    def has_twin(self, agent_id: str, now_s: float) -> bool:
        """Tell, once, that who speaks is not the process that has the session now."""
        if now_s - self.taken_s.get(agent_id, now_s) < twin_s:
            return False
        del self.taken_s[agent_id]
        return True

    def shared(self, agent_id: str) -> bool:
        """Tell whether others than this agent have a session on it, or wait for one."""
        return bool(self.agents.keys() - {agent_id} or self.waiting - {agent_id})

    def strike(self, now_s: float, agent_id: str = "") -> None:
        """Count a refused frame, for its agent or for whoever holds the stream.

        An agent that has others beside it on its stream is named in `struck` when it is out: a
        bridge must not lose all of its browsers for one.

        Raises:
            ResourceExhausted: TOO_MANY_STRIKES, 16 within a minute, and nobody else is concerned.
        """
        strikes = self.strikes.get(agent_id)
        if strikes is None:
            if len(self.strikes) >= struck_len_max:
                del self.strikes[next(iter(self.strikes))]
            strikes = self.strikes[agent_id] = deque()
        strikes.append(now_s)
        while strikes[0] <= now_s - strikes_s:
            strikes.popleft()
        if len(strikes) < strikes_max:
            return
        if agent_id and self.shared(agent_id):
            strikes.clear()
            if agent_id in self.agents:
                self.struck.append(agent_id)
            return
        raise ResourceExhausted(
            "TOO_MANY_STRIKES",
            struck_message,
            metadata={"strikes_max": str(strikes_max)},
            retry_after_s=retry_s,
        )


@dataclass(eq=False, slots=True)
class Session:
    """An agent as this router has it."""

    agent_id: str
    instance_id: str
    session_id: str
    resume_token: str
    name: str
    capabilities: dict[str, float]
    max_concurrency: int
    cost_per_task: float
    body: object
    heard_s: float
    versions: tuple[str, ...] = ()
    """What it can do in which version, as `name@2.1`."""
    since_s: float = 0.0
    """When it began."""
    superseded: tuple[str, ...] = ()
    """Instances of the agent that this one has followed: none of them comes back before it ends."""
    superseded_by: str = ""
    """The instance that has followed this one on another router."""
    stream: Stream | None = None
    seq: int = 0
    ready: bool = False
    """Whether Ready was sent; work comes only after it."""
    resumed: bool = False
    claim_due_s: float = 0.0
    verdicts: list[tuple[str, int, int]] = field(default_factory=list)
    """Verdicts gathered for Ready."""
    claims: set[LeaseKey] = field(default_factory=set)
    """Leases the scheduler was asked about."""
    offers: list[Lease] = field(default_factory=list)
    """Offers that did not reach it, to be sent again after Ready."""
    leases: dict[LeaseKey, Lease] = field(default_factory=dict)
    row: int = -1
    kind: CapabilityClass | None = None
    load: int = 0
    counted_free: int = 0
    load_points: float = -math.inf
    slowdown: float = math.inf
    """What the fleet has of it in arrays, for reading single ones."""
    counted_working: bool = False
    credit_total: int | None = None
    assigned_total: int = 0
    """Assignments since Ready; what was recalled or declined stays counted, as it does there."""
    draining: bool = False
    asked: int = 0
    """The number under which the registry is asked what holds for it; 0 = nobody waits for it."""
    quarantined: bool = False
    told_reason: str = ""
    """Why it is quarantined or drains, as the registry said."""
    breaker_open: bool = False
    half_open: bool = False
    silent: bool = False
    stalled: bool = False
    paused_until_s: float = 0.0
    paused: bool = False
    detached_s: float | None = None
    heartbeat_s: float = math.inf
    """How often it was asked to send a heartbeat; until Ready it owes none."""
    look_s: float = math.inf
    """When it is looked after next."""
    probe_nonce: int = 0
    probe_sent_s: float | None = None
    unproved: bool = False
    """Whether a probe waits for its answer longer than an assignment may."""
    proved_s: float = 0.0
    """When the way down to the agent was last seen to work."""
    alive_told: tuple[float, int] = (0.0, -1)
    """When it was heard of and its load, as the registry was told."""

    def next_seq(self) -> int:
        """Return the number of the next frame."""
        self.seq += 1
        return self.seq

    def renumber(self) -> None:
        """Number frames anew; what was assigned under the numbers before comes before all."""
        self.seq = 0
        for lease in self.leases.values():
            lease.offered_seq = 0

    def bars(self, instance_id: str) -> str:
        """Return the instance that has followed one of its agent; empty when none has."""
        if self.superseded_by and self.instance_id == instance_id:
            return self.superseded_by
        return self.instance_id if instance_id in self.superseded else ""

    def follow(self, old: Session) -> None:
        """Take over what holds for the agent, whichever process of it there is."""
        self.followed((*old.superseded, old.instance_id))
        self.quarantined, self.told_reason = old.quarantined, old.told_reason
        self.breaker_open, self.half_open = old.breaker_open, old.half_open

    def followed(self, instance_ids: tuple[str, ...]) -> None:
        """Note instances of its agent that it has followed."""
        known = dict.fromkeys((*self.superseded, *instance_ids))
        known.pop(self.instance_id, None)
        self.superseded = tuple(known)[-superseded_len_max:]

    def block(self) -> Block:
        """Return why it gets no work; the gravest reason when there are several."""
        doubted = self.silent or self.stalled or self.unproved
        if self.stream is None or not self.ready or doubted or self.asked:
            return Block.SUSPECT
        if self.quarantined:
            return Block.QUARANTINED
        if self.draining:
            return Block.DRAINING
        if self.breaker_open:
            return Block.BREAKER
        if self.paused:
            return Block.PAUSED
        return _OPEN

    def free_slots(self) -> int:
        """Return how many more tasks it accepts, and its stream has room for."""
        if self.stream is not None and self.stream.full:
            # A moment, as a rule: what waits for it stays here, and its router takes less.
            return 0
        # A breaker that is half open lets one probe through at a time.
        free = (1 if self.half_open else self.max_concurrency) - self.load
        if self.credit_total is not None:
            free = min(free, self.credit_total - self.assigned_total)
        return max(0, free)
