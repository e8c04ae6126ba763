from __future__ import annotations

import numpy as np
import pytest

from services.ml_router.core.features import AgentFeatures, TaskFeatures, gather
from services.ml_router.core.learner import Learner
from services.ml_router.core.model import Tuning
from services.ml_router.core.scoring import score
from tests.ml_router.worlds import feed, model_of, outcomes

WORDS = [TaskFeatures("words")]


def learned() -> Learner:
    learner = Learner()
    feed(learner, *outcomes("fast", 0.9, 150, run_ms=100.0))
    feed(learner, *outcomes("slow", 0.9, 150, run_ms=400.0))
    feed(learner, *outcomes("poor", 0.3, 150, run_ms=100.0))
    return learner


def scores(agents: list[AgentFeatures], tuning: Tuning | None = None) -> list[float]:
    model = model_of(learned(), tuning)
    return [float(each) for each in score(model, gather(model, WORDS, agents)).scores[0]]


def test_a_fast_agent_beats_a_slow_one_and_a_reliable_one_a_poor_one() -> None:
    fast, slow, poor = scores([AgentFeatures(name) for name in ("fast", "slow", "poor")])

    assert fast > slow
    assert fast > poor


def test_a_free_agent_beats_a_busy_one() -> None:
    free, busy = scores([AgentFeatures("fast", 0.0), AgentFeatures("fast", 0.9)])

    assert free > busy


def test_the_higher_the_penalty_the_more_reliability_counts() -> None:
    agents = [AgentFeatures("slow"), AgentFeatures("poor")]

    slow, poor = scores(agents, Tuning(retry_penalty_factor=0.0))
    assert poor > slow
    slow, poor = scores(agents, Tuning(retry_penalty_factor=10.0))
    assert slow > poor


def test_cost_counts_as_far_as_it_is_given_a_weight() -> None:
    agents = [AgentFeatures("fast", cost=2.0), AgentFeatures("fast", cost=1.0)]

    dear, cheap = scores(agents)
    assert dear == cheap
    dear, cheap = scores(agents, Tuning(cost_weight_ms=50.0))
    assert cheap - dear == pytest.approx(50.0, abs=0.01)


def test_the_score_is_the_expected_cost_in_milliseconds() -> None:
    model = model_of(learned(), Tuning(retry_penalty_factor=2.0, cost_weight_ms=10.0))
    tasks = [TaskFeatures("words", 3.0)]

    scored = score(model, gather(model, tasks, [AgentFeatures("fast", 0.5, 1.0, 4.0)]))

    p, delay = float(scored.success_probabilities[0, 0]), float(scored.expected_delays_ms[0, 0])
    service = float(model.service_ms[model.rows["fast"], 0])
    assert delay == pytest.approx(service * 3.0 * 1.5)
    cost = delay + (1.0 - p) * model.retry_penalty_ms + 10.0 * 4.0
    assert float(scored.scores[0, 0]) == pytest.approx(-cost, rel=1e-5)


def test_a_draw_moves_scores_by_a_quarter_of_the_deviation() -> None:
    model = model_of(learned())
    features = gather(model, WORDS, [AgentFeatures("poor")])

    mean = score(model, features)
    drawn = score(model, features, draw=np.ones((1, 1), np.float32))

    moved = float(drawn.success_probabilities[0, 0] - mean.success_probabilities[0, 0])
    assert moved == pytest.approx(float(features.deviation[0, 0]) / 4, rel=1e-3)
