"""The record of one choice: who was considered, how they scored, how likely the choice was."""

from __future__ import annotations

from typing import NamedTuple

candidates_len_max = 5


class Decision(NamedTuple):
    """One choice of an agent; the candidates as columns, best first."""

    agent_id: str
    policy: str
    model_version: str
    probability: float
    eligible_count: int
    filtered: dict[str, int]
    candidates: list[str]
    scores: list[float]
    matches: list[float]
    balances: list[float]
    priority_bonus: float
    successes: list[float]
    delays_ms: list[float]
    shadow_agent_id: str
    explored: bool
