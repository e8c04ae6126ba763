"""A task that costs one agent after the other: what they die of is the task."""

from __future__ import annotations

from services.task_scheduler.core.event import Failure
from services.task_scheduler.core.task import Task

AGENT_LOST = Failure("AGENT_LOST", "The agent did not come back in time.", True)

agents_len_min = 3
"""Agents that a task must have cost, and no attempt without: two may be lost by chance."""


def poison(task: Task) -> Failure | None:
    """Return the verdict on a task whose retries are spent, if all it failed of was lost agents.

    Attempts before it was last revived do not count.
    """
    # Their numbers began anew when it was revived, and of very many only the latest are kept.
    attempts = task.attempts[-task.attempt :] if task.attempt else ()
    failed = [attempt for attempt in attempts if attempt.failure is not None]
    agents = {attempt.agent_id for attempt in failed}
    if len(agents) < agents_len_min or any(each.failure != AGENT_LOST for each in failed):
        return None
    count = len(failed)
    return Failure("POISON", f"All of its {count} attempts lost their agents: {_named(agents)}.")


def _named(agents: set[str]) -> str:
    shown = sorted(agents)[:agents_len_min]
    others = len(agents) - len(shown)
    return ", ".join(shown) + (f" and {others} more" if others else "")
