"""How often agents send heartbeats: what was set, or less often where there are many of them."""

from __future__ import annotations

heartbeats_per_s = 100.0
"""Heartbeats a router takes in a second before it asks for fewer: a message costs 0.2 ms."""
share_worth = 0.2
"""A change of the interval that is not worth a word."""


def heartbeat_s(agent_count: int, set_s: float, probe_s: float) -> float:
    """Return the seconds between two heartbeats of an agent.

    It grows with the number of agents, up to half as long again as the time between two proofs of
    the way down: each proof is answered, an answer is a sign of life, and so an idle agent sends
    no heartbeats at all there. It never grows where proofs are rarer than that.

    Args:
        agent_count: Agents with a session.
        set_s: The interval that was set.
        probe_s: The time between two proofs of the way down.
    """
    most_s = max(set_s, 1.5 * probe_s)
    return min(most_s, max(set_s, agent_count / heartbeats_per_s))


def differs(told_s: float, now_s: float) -> bool:
    """Tell whether an interval has changed so much that agents are told."""
    return abs(now_s - told_s) > share_worth * told_s
