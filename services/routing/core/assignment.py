"""One lease at this router, from grant to settlement, and the table of all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from services.routing.core.effects import LeaseKey

if TYPE_CHECKING:
    from services.routing.core.decision import Decision
    from services.routing.core.demand import Demand
    from services.routing.core.fleet import CapabilityClass
    from services.routing.core.session import Session


class Stage(IntEnum):
    """Where a lease stands here."""

    WAITING = 0
    """Granted; no agent has it."""
    OFFERED = 1
    """Sent to an agent, not acked."""
    RUNNING = 2
    """Acked."""
    ENDED = 3
    """Its outcome is on the way to the scheduler."""
    CLAIMED = 4
    """An agent says that it has it; the scheduler was asked."""
    STOPPING = 5
    """Over; the agent was told and has not answered yet."""


@dataclass(eq=False, slots=True)
class Lease:
    """A grant and what became of it."""

    task_id: str
    epoch: int
    attempt: int = 0
    task_type: str = ""
    priority: int = 5
    size: float = 1.0
    excluded: tuple[str, ...] = ()
    """Agents that failed or declined the task."""
    sticky_agent_id: str = ""
    timeout_ms: int = 0
    """Longest time the attempt may run; 0 without a limit."""
    queued_ms: int = 0
    """When the task was queued, on the wall clock; 0 when it is not known."""
    size_bytes: int = 0
    """What it carries to the agent: payload, checkpoint and answer."""
    body: object = None
    """The grant as it came; passed on untouched, and let go once the agent has it."""
    key: LeaseKey = field(init=False)
    stage: Stage = Stage.WAITING
    demand: Demand | None = None
    partition: int = 0
    """The partition of the scheduler that granted it."""
    kind: CapabilityClass | None = None
    """The class on whose credit it was granted; None once an agent has it."""
    order: tuple[int, int] = (0, 0)
    bypassed: int = 0
    """Later tasks that were preferred to it."""
    granted_s: float = 0.0
    offered_seq: int = 0
    """Number of the frame that last brought it to its agent, within the session."""
    offered_s: float = 0.0
    """When it was first sent to its agent; 0 when it began at another router."""
    acked_s: float = 0.0
    run_s: float = 0.0
    """How long its agent had it; 0 when that is not known."""
    deadline_ms: int = 0
    """When the attempt must have ended, on the wall clock; 0 without a limit."""
    stop_due_s: float = 0.0
    stop_reason: str = ""
    """Why it is being stopped."""
    session: Session | None = None
    agent_id: str = ""
    decision: Decision | None = None
    start_told: bool = False
    """Whether a report of its start was sent; else that of its end tells of both."""
    outcome: object = None
    """The report of its end, repeated until it is settled."""
    asks: bool = False
    """Whether that is a question instead of a result."""
    refused: str = ""
    """Why the result was replaced by a failure of ours; empty when it was not."""
    lost: bool = False
    """Whether the agent was given up, so that a result of it comes too late."""

    def __post_init__(self) -> None:
        self.key = (self.task_id, self.epoch)


class Leases:
    """All leases here: the live ones, and outcomes on the way to the scheduler."""

    def __init__(self) -> None:
        self._live: dict[LeaseKey, Lease] = {}
        self.unsettled: dict[LeaseKey, Lease] = {}
        """Ended, not settled by the scheduler."""
        self.offered: deque[tuple[float, LeaseKey]] = deque()
        """When which lease was offered; those that went on since are skipped."""
        self._handed_back: deque[tuple[float, LeaseKey, str, str]] = deque(maxlen=4_096)

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._live.values()))

    def get(self, key: LeaseKey) -> Lease | None:
        """Return a live lease."""
        return self._live.get(key)

    def add(self, lease: Lease) -> None:
        """Keep a new lease."""
        assert lease.key not in self._live
        self._live[lease.key] = lease

    def drop(self, lease: Lease) -> None:
        """Forget a lease."""
        del self._live[lease.key]

    def note_handed_back(self, now_s: float, key: LeaseKey, reason: str, agent_id: str) -> None:
        """Remember a hand-back for a while: a stream that breaks may lose it."""
        self._handed_back.append((now_s, key, reason, agent_id))

    def handed_back_since(self, since_s: float) -> list[tuple[LeaseKey, str, str]]:
        """Return the hand-backs after a moment."""
        return [(key, why, who) for at_s, key, why, who in self._handed_back if at_s >= since_s]
