"""Tasks that cost one agent after the other, judged as the scheduler does."""

from __future__ import annotations

from collections.abc import Sequence

AGENTS_LEN_MIN = 3
"""Agents that a task must have cost, and no attempt without: two may be lost by chance."""


def poison(attempts: Sequence[tuple[str, str]]) -> str:
    """Returns what to say of a task that all its agents died of; empty where it is not so.

    Args:
        attempts: of each that failed, its agent and why.
    """
    agents = sorted({agent_id for agent_id, _ in attempts})
    if len(agents) < AGENTS_LEN_MIN or any(reason != "AGENT_LOST" for _, reason in attempts):
        return ""
    others = len(agents) - AGENTS_LEN_MIN
    named = ", ".join(agents[:AGENTS_LEN_MIN]) + (f" and {others} more" if others else "")
    return f"All of its {len(attempts)} attempts lost their agents: {named}."
