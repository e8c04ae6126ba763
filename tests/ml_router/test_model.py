from __future__ import annotations

import hashlib

import numpy as np
import pytest

from services.ml_router.core import model as module
from services.ml_router.core.learner import Learner
from services.ml_router.core.model import Tuning
from tests.ml_router.worlds import feed, mixed, model_of, outcomes, service_ms, success


def test_nothing_learned_gives_an_empty_model_with_cautious_defaults() -> None:
    model = model_of(Learner())

    assert model.success.shape == (0, 0)
    assert model.default_success == pytest.approx(0.9)
    assert model.default_service_ms == 1_000.0


def test_little_evidence_is_drawn_towards_the_fleet_and_much_is_not() -> None:
    learner = Learner()
    feed(learner, *outcomes("usual", 0.9, 2_000))
    feed(learner, *outcomes("brief", 0.0, 2))
    feed(learner, *outcomes("long", 0.0, 200))

    model = model_of(learner)
    assert success(model, "brief") > 0.5
    assert success(model, "long") < 0.08


def test_a_good_agent_is_expected_to_be_good_at_a_type_it_has_not_had() -> None:
    learner = Learner()
    shares = {"good": 0.98, "poor": 0.3, "usual": 0.8}
    feed(learner, *mixed(*(outcomes(agent, share, 300) for agent, share in shares.items())))
    feed(learner, *outcomes("usual", 0.6, 300, task_type="tables"))

    model = model_of(learner)
    assert success(model, "good", "tables") > 0.75
    assert success(model, "poor", "tables") < 0.4


def test_an_agent_that_gets_the_hard_tasks_is_not_taken_for_a_poor_one() -> None:
    learner = Learner()
    for number in range(6):
        feed(learner, *outcomes(f"fleet-{number}", 0.95, 100, task_type="easy", seed=number))
        feed(learner, *outcomes(f"fleet-{number}", 0.30, 100, task_type="hard", seed=number))
    feed(learner, *outcomes("specialist", 0.30, 150, task_type="hard"))

    assert success(model_of(learner), "specialist", "easy") > 0.85


def test_a_fast_agent_is_expected_to_be_fast_at_a_type_it_has_not_had() -> None:
    learner = Learner()
    times_ms = {"fast": 50.0, "slow": 200.0, "usual": 100.0}
    feed(learner, *mixed(*(outcomes(a, 1.0, 200, run_ms=ms) for a, ms in times_ms.items())))
    feed(learner, *outcomes("usual", 1.0, 200, run_ms=1_000.0, task_type="tables"))

    model = model_of(learner)
    assert service_ms(model, "fast", "tables") < service_ms(model, "usual", "tables")
    assert service_ms(model, "usual", "tables") < service_ms(model, "slow", "tables")


def test_deviations_shrink_with_evidence_and_never_vanish() -> None:
    learner = Learner()
    feed(learner, *outcomes("seldom", 0.8, 5))
    feed(learner, *outcomes("often", 0.8, 150))

    model = model_of(learner)
    seldom, often = (float(model.deviation[model.rows[a], 0]) for a in ("seldom", "often"))
    assert 0.01 < often < seldom < 0.25


def test_a_failure_costs_as_many_service_times_as_the_tuning_says() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 1.0, 100, run_ms=250.0))

    model = model_of(learner, Tuning(retry_penalty_factor=4.0))

    assert model.retry_penalty_ms == pytest.approx(1_000.0)


def test_everything_is_finite_and_a_probability_where_it_is_one() -> None:
    learner = Learner()
    for agent, share in (("never", 0.0), ("always", 1.0)):
        feed(learner, *outcomes(agent, share, 1_000))
        feed(learner, *outcomes(agent, share, 1_000, task_type="other"))

    model = model_of(learner)
    for matrix in (model.success, model.deviation, model.service_ms, model.evidence):
        assert np.isfinite(matrix).all()
    assert (model.success > 0.0).all() and (model.success < 1.0).all()


def test_the_checksum_covers_each_matrix_as_it_is_sent() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 0.5, 10))
    model = model_of(learner)

    sent = b"".join(
        matrix.tobytes()
        for matrix in (model.success, model.deviation, model.service_ms, model.evidence)
    )
    assert model.checksum() == hashlib.sha256(sent).digest()


def test_only_agents_seen_last_are_told_when_not_all_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cells_len_max", 4)
    learner = Learner()
    for agent in ("a", "b", "c", "a"):
        feed(learner, *outcomes(agent, 0.5, 5))
        feed(learner, *outcomes(agent, 0.5, 5, task_type="tables"))

    model = model_of(learner)
    assert model.agent_ids == ("a", "c")
    assert model.success.shape == (2, 2)


def test_learning_goes_on_without_touching_a_model_that_is_out() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 1.0, 50))
    model = model_of(learner)
    before = model.success.copy()
    feed(learner, *outcomes("a", 0.0, 50), *outcomes("b", 0.0, 50))

    assert (model.success == before).all()
    with pytest.raises(ValueError, match="read-only"):
        model.success[0, 0] = 0.0
