from __future__ import annotations

import pytest

from services.ml_router.core.features import AgentFeatures, TaskFeatures, gather
from services.ml_router.core.learner import Learner
from tests.ml_router.worlds import feed, model_of, outcomes


@pytest.fixture
def learner() -> Learner:
    learner = Learner()
    feed(learner, *outcomes("a", 0.9, 100), *outcomes("b", 0.2, 100))
    feed(learner, *outcomes("b", 0.99, 100, task_type="tables"))
    return learner


def test_performance_is_per_task_type(learner: Learner) -> None:
    model = model_of(learner)
    tasks = [TaskFeatures("words"), TaskFeatures("tables")]

    features = gather(model, tasks, [AgentFeatures("a"), AgentFeatures("b")])

    performance = features.agent_historical_performance
    assert performance.shape == (2, 2)
    assert performance[0, 0] > performance[0, 1]
    assert performance[1, 1] == pytest.approx(model.success[model.rows["b"], 1])


def test_strangers_get_the_values_of_the_fleet(learner: Learner) -> None:
    model = model_of(learner)
    tasks = [TaskFeatures("words"), TaskFeatures("unheard-of")]

    features = gather(model, tasks, [AgentFeatures("new")])

    known, unknown = features.agent_historical_performance[:, 0]
    assert known == pytest.approx(model.fleet_success[model.columns["words"]])
    assert unknown == pytest.approx(model.default_success)
    assert features.service_ms[1, 0] == pytest.approx(model.default_service_ms)


def test_what_an_agent_declares_counts_less_the_more_is_known_of_it(learner: Learner) -> None:
    agents = [
        AgentFeatures("new", capability_match_score=0.5),
        AgentFeatures("a", capability_match_score=0.5),
    ]

    features = gather(model_of(learner), [TaskFeatures("words")], agents)

    new, known = features.capability_match_score[0]
    assert new == pytest.approx(0.5)
    assert known > 0.9


def test_an_empty_model_and_empty_lists_are_no_fault() -> None:
    model = model_of(Learner())

    assert gather(model, [TaskFeatures("words")], []).service_ms.shape == (1, 0)
    assert gather(model, [], [AgentFeatures("a")]).service_ms.shape == (0, 1)
