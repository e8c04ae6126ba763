"""Everything the core knows, in one place, for the parts of it that decide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from services.routing.core import pace
from services.routing.core.assignment import Lease, Leases, Stage
from services.routing.core.demand import Demands
from services.routing.core.effects import Effect, HandedBack, partition_in
from services.routing.core.fleet import Fleet
from services.routing.core.looks import Looks
from services.routing.core.model import Mode, Model
from services.routing.core.session import Limits, Session, Stream, session_bytes_max
from services.routing.core.waiting import Waiting

if TYPE_CHECKING:
    from services.kernel.instant import Instant

MODEL_INTERVALS_MAX = 3
MODEL_DOWN_S_MAX = 5.0
TOKENS_LEN = 256
"""Tokens drawn at once."""
TOKEN_BYTES = 16

_WAITING = Stage.WAITING  # named once, as in `work`


class Board:
    """The state of a router."""

    def __init__(self, router_id: str, limits: Limits, rng: np.random.Generator) -> None:
        self.router_id = router_id
        self.limits = limits
        self.rng = rng
        self.streams: dict[int, Stream] = {}
        self.sessions: dict[str, Session] = {}
        self.fleet = Fleet()
        self.demands = Demands(self.fleet)
        self.waiting = Waiting()
        self.leases = Leases()
        self.looks = Looks()
        self.effects: list[Effect] = []
        self.on_probation: dict[Session, float] = {}
        """Agents with a half-open breaker, and when each is due to be tried."""
        self.up: list[int] = []
        """Partitions whose scheduler has welcomed this router, in order."""
        self.lease_s = limits.lease_s
        """How long a lease lives without renewal, as the scheduler last said."""
        self.draining = False
        self._tokens: list[str] = []
        self.model: Model | None = None
        self.model_s = -math.inf
        """When the model was last sent."""
        self.model_down_s: float | None = None
        """Since when there is no stream that would bring a newer one."""

    @property
    def dispatch_up(self) -> bool:
        """Whether the scheduler has welcomed this router, for all partitions."""
        return len(self.up) >= self.fleet.partitions

    def is_up(self, task_id: str) -> bool:
        """Tell whether the scheduler of a task can be asked."""
        return self.dispatch_up or partition_in(task_id) in self.up

    def token(self) -> str:
        """Return a name for one session that nobody guesses.

        Many are drawn at once: while numpy draws, other threads may run, and to go on after that
        can take longer than all else for an agent that comes with a thousand others.
        """
        if not self._tokens:
            drawn = self.rng.bytes(TOKENS_LEN * TOKEN_BYTES)
            steps = range(0, len(drawn), TOKEN_BYTES)
            self._tokens = [drawn[at : at + TOKEN_BYTES].hex() for at in steps]
        return self._tokens.pop()

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, and forget it."""
        effects, self.effects = self.effects, []
        return effects

    def model_in_use(self, now_s: float) -> Model | None:
        """Return the model unless it is off or stale: then the formula decides at once."""
        model = self.model
        if model is None or model.mode is Mode.OFF:
            return None
        if now_s - self.model_s > MODEL_INTERVALS_MAX * model.push_interval_s:
            return None
        if self.model_down_s is not None and now_s - self.model_down_s > MODEL_DOWN_S_MAX:
            return None
        return model

    @property
    def heartbeat_s(self) -> float:
        """How often an agent should send a heartbeat now, in seconds."""
        limits = self.limits
        return pace.heartbeat_s(len(self.sessions), limits.heartbeat_s, limits.probe_s)

    @property
    def in_motion(self) -> bool:
        """Whether agents here have tasks, or outcomes are on their way to the scheduler."""
        if self.leases.unsettled:
            return True
        attached = any(session.stream is not None for session in self.sessions.values())
        return attached and any(lease.session is not None for lease in self.leases)

    def unbind(self, lease: Lease) -> None:
        """Take a lease from its agent, or out of the waiting ones; the slot is free."""
        if lease.stage is _WAITING:
            self.waiting.remove(lease)
            self._uncount(lease)
        session = lease.session
        if session is not None:
            lease.session = None
            del session.leases[lease.key]
            self.fleet.release(session)

    def bind(self, lease: Lease, session: Session) -> None:
        """Give a lease to an agent; it takes a slot."""
        lease.session = session
        lease.agent_id = session.agent_id
        session.leases[lease.key] = lease
        self.fleet.take(session)

    def queued(self, stream: Stream, size_bytes: int) -> None:
        """Count bytes that go to a stream; its agents get nothing more once they are too many."""
        stream.queued_bytes += size_bytes
        if stream.queued_bytes < session_bytes_max or stream.full:
            return
        if stream.queued_bytes < stream.room_bytes:
            return
        stream.full = True
        for session in stream.agents.values():
            self.fleet.refresh(session)

    def placed(self, lease: Lease) -> None:
        """Note that a waiting lease goes to an agent."""
        if lease.kind is not None:
            lease.kind.placed += 1
        self.waiting.remove(lease)
        self._uncount(lease)

    def queue(self, lease: Lease) -> None:
        """Note that a granted lease waits."""
        assert lease.kind is not None
        lease.kind.waiting += 1
        lease.kind.parts[lease.partition].waiting += 1
        self.waiting.add(lease)

    def hand_back(self, lease: Lease, reason: str, agent_id: str, now: Instant) -> None:
        """Return a lease that no attempt began under."""
        self.unbind(lease)
        self.leases.drop(lease)
        self.leases.note_handed_back(now.mono_s, lease.key, reason, agent_id)
        self.effects.append(HandedBack(lease.task_id, lease.epoch, reason, agent_id))

    def _uncount(self, lease: Lease) -> None:
        kind = lease.kind
        if kind is not None:
            kind.waiting -= 1
            kind.parts[lease.partition].waiting -= 1
            self.fleet.changed.add(kind)
            lease.kind = None
