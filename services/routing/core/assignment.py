"""One lease at this router, from grant to settlement, and the table of all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
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


class Lease:
    """A grant and what became of it."""

    __slots__ = (
        "acked_s",
        "agent_id",
        "attempt",
        "body",
        "bypassed",
        "decision",
        "demand",
        "epoch",
        "excluded",
        "granted_s",
        "key",
        "kind",
        "lost",
        "offered_s",
        "order",
        "outcome",
        "priority",
        "refused",
        "session",
        "size",
        "stage",
        "stop_due_s",
        "sticky_agent_id",
        "task_id",
        "task_type",
        "trace",
    )

    def __init__(
        self,
        task_id: str,
        epoch: int,
        *,
        attempt: int = 0,
        task_type: str = "",
        priority: int = 5,
        size: float = 1.0,
        excluded: tuple[str, ...] = (),
        sticky_agent_id: str = "",
        body: object = None,
    ) -> None:
        self.task_id = task_id
        self.epoch = epoch
        self.key: LeaseKey = (task_id, epoch)
        self.attempt = attempt
        self.task_type = task_type
        self.priority = priority
        self.size = size
        self.excluded = excluded
        self.sticky_agent_id = sticky_agent_id
        self.body = body
        """The grant as it came; passed on untouched, and let go once the agent has it."""
        self.stage = Stage.WAITING
        self.demand: Demand | None = None
        self.kind: CapabilityClass | None = None
        """The class on whose credit it was granted; None once an agent has it."""
        self.order = (0, 0)
        self.granted_s = 0.0
        self.offered_s = 0.0
        self.acked_s = 0.0
        self.stop_due_s = 0.0
        self.bypassed = 0
        """Later tasks that were preferred to it."""
        self.session: Session | None = None
        self.agent_id = ""
        self.decision: Decision | None = None
        self.outcome: object = None
        """The report of its end, repeated until it is settled."""
        self.refused = False
        """Whether the result was replaced by a failure of ours."""
        self.lost = False
        """Whether the agent was given up, so that a result of it comes too late."""
        self.trace: object = None
        """What the shell keeps about its spans."""


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
