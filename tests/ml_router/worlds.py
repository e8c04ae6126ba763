"""Fleets whose true success rates and speeds are known, and what a learner makes of them."""

from __future__ import annotations

import numpy as np

from services.ml_router.core.learner import Learner, Outcome
from services.ml_router.core.model import Model, Tuning, derive


def feed(learner: Learner, *outcomes: Outcome) -> None:
    """Lets the learner take outcomes in as the next events of the log."""
    for outcome in outcomes:
        assert learner.advance(learner.event_seq + 1)
        learner.learn(outcome)


def mixed(*each: list[Outcome]) -> list[Outcome]:
    """Returns the outcomes of several agents in turns, as they come in a fleet."""
    return [outcome for turn in zip(*each, strict=True) for outcome in turn]


def outcomes(
    agent_id: str,
    share: float,
    count: int,
    *,
    task_type: str = "words",
    run_ms: float = 100.0,
    size: float = 1.0,
    seed: int = 1,
) -> list[Outcome]:
    """Returns `count` outcomes of an agent that succeeds with probability `share`."""
    draws = np.random.default_rng(seed).random(count)
    return [Outcome(task_type, agent_id, bool(draw < share), run_ms, size) for draw in draws]


def model_of(learner: Learner, tuning: Tuning | None = None) -> Model:
    """Returns what the learner knows."""
    return derive(learner.sums, version="v1", create_ms=1, tuning=tuning or Tuning())


def success(model: Model, agent_id: str, task_type: str = "words") -> float:
    """Returns the mean probability of success of a cell."""
    return float(model.success[model.rows[agent_id], model.columns[task_type]])


def service_ms(model: Model, agent_id: str, task_type: str = "words") -> float:
    """Returns the mean service time of a cell."""
    return float(model.service_ms[model.rows[agent_id], model.columns[task_type]])
