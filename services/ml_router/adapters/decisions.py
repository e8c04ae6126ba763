"""Recent decisions and how they went, in memory: enough to evaluate policies on.

They are kept as bytes, since a message taken out of a batch would hold the whole batch in memory,
and are decoded only for the few that ever ask.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from podium.v1.decision_pb2 import Decision
from services.ml_router.core.evaluation import Decided

open_len_max = 100_000
decisions_len_max = 20_000
"""About 10 MB."""


class DecisionLog:
    """Joins decisions with outcomes; of both it keeps a bounded number, dropping the oldest."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, float, bytes]] = {}
        self._ended: deque[tuple[str, float, bytes, bool]] = deque(maxlen=decisions_len_max)

    def started(self, task_id: str, task_type: str, size: float, decision: Decision) -> None:
        """Note a decision; that of the task's attempt before is forgotten."""
        # Nothing to choose from says nothing about a choice.
        if len(decision.candidate_agent_ids) < 2:
            self._open.pop(task_id, None)
            return
        if len(self._open) >= open_len_max:
            del self._open[next(iter(self._open))]
        self._open[task_id] = (task_type, size, decision.SerializeToString())

    def ended(self, task_id: str, success: bool) -> None:
        """Note how the task's decision went."""
        known = self._open.pop(task_id, None)
        if known is not None:
            self._ended.append((*known, success))

    def dropped(self, task_id: str) -> None:
        """Forget a decision whose outcome says nothing about the agent."""
        self._open.pop(task_id, None)

    def recent(self, count: int) -> list[Decided]:
        """Return the last `count` that can be evaluated, newest first."""
        decoded = (_decided(*entry) for entry in islice(reversed(self._ended), count))
        return [decided for decided in decoded if decided is not None]


def _decided(task_type: str, size: float, raw: bytes, success: bool) -> Decided | None:
    decision = Decision.FromString(raw)
    agent_ids = tuple(decision.candidate_agent_ids)
    count = len(agent_ids)
    columns = (
        decision.capability_matches,
        decision.load_balances,
        decision.priority_bonuses,
    )
    # The chosen one may be missing: exploration can pick somebody who is not among the best.
    if decision.agent_id not in agent_ids or any(len(column) != count for column in columns):
        return None
    return Decided(
        task_type,
        size,
        agent_ids.index(decision.agent_id),
        decision.probability,
        success,
        agent_ids,
        *(tuple(column) for column in columns),
    )
