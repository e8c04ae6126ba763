from __future__ import annotations

import numpy as np
import pytest

from services.kernel.errors import FailedPrecondition
from services.ml_router.core.evaluation import (
    Decided,
    Estimate,
    evaluate,
    formula_policy,
    learned_policy,
)
from services.ml_router.core.learner import Learner
from services.ml_router.core.model import Model
from tests.ml_router.worlds import feed, model_of, outcomes

TRUTH = {"good": 0.9, "fair": 0.7, "poor": 0.3}


def logged(count: int, seed: int) -> list[Decided]:
    """Decisions by a logging policy that prefers the poor agent, with its probabilities."""
    generator = np.random.default_rng(seed)
    names = tuple(TRUTH)
    shares = np.array([0.2, 0.2, 0.6])
    decisions = []
    for _ in range(count):
        chosen = int(generator.choice(3, p=shares))
        success = bool(generator.random() < TRUTH[names[chosen]])
        # The fair one is idle, so that the formula prefers it.
        decisions.append(
            Decided(
                "words", 1.0, chosen, shares[chosen], success, names, (1.0,) * 3, (0.5, 1.0, 0.5),
                (5.0,) * 3,
            )
        )  # fmt: skip
    return decisions


@pytest.fixture(scope="module")
def model() -> Model:
    learner = Learner()
    for agent, share in TRUTH.items():
        feed(learner, *outcomes(agent, share, 150))
    return model_of(learner)


def of_formula(decisions: list[Decided], model: Model) -> Estimate:
    return evaluate(decisions, formula_policy(0.02), model)


def of_learned(decisions: list[Decided], model: Model) -> Estimate:
    return evaluate(decisions, learned_policy(model, np.random.default_rng(1)), model)


def test_both_estimates_find_what_the_formula_would_have_achieved(model: Model) -> None:
    truth = 0.98 * TRUTH["fair"] + 0.02 * sum(TRUTH.values()) / 3

    estimate = of_formula(logged(4_000, 1), model)

    assert estimate.doubly_robust == pytest.approx(truth, abs=0.04)
    assert estimate.snips == pytest.approx(truth, abs=0.04)
    assert estimate.decision_count == 4_000


def test_the_learned_policy_is_seen_to_be_better_than_what_was_done(model: Model) -> None:
    estimate = of_learned(logged(2_000, 2), model)

    assert estimate.logged == pytest.approx(0.5, abs=0.04)
    assert estimate.doubly_robust - estimate.half_width > estimate.logged + 0.2


def test_the_interval_covers_the_truth_about_as_often_as_it_says(model: Model) -> None:
    truth = 0.98 * TRUTH["fair"] + 0.02 * sum(TRUTH.values()) / 3
    estimates = [of_formula(logged(500, seed), model) for seed in range(60)]

    covered = sum(abs(each.doubly_robust - truth) <= each.half_width for each in estimates)

    assert covered >= 52


def test_wrong_expectations_do_not_mislead_when_probabilities_are_right() -> None:
    truth = 0.98 * TRUTH["fair"] + 0.02 * sum(TRUTH.values()) / 3

    estimate = of_formula(logged(4_000, 3), model_of(Learner()))

    assert estimate.doubly_robust == pytest.approx(truth, abs=0.05)


def test_the_same_log_and_seed_give_the_same_estimate(model: Model) -> None:
    decisions = logged(300, 4)

    assert of_learned(decisions, model) == of_learned(decisions, model)


def test_one_rare_choice_cannot_lead_beyond_what_is_possible(model: Model) -> None:
    decisions = logged(200, 5)
    rare = [each._replace(probability=0.002) for each in decisions[:3] if each.success]

    estimate = of_formula(decisions + rare, model)

    assert 0.0 <= estimate.doubly_robust <= 1.0
    assert 0.0 <= estimate.snips <= 1.0 + 1e-9
    assert estimate.half_width < 1.0


def test_agents_that_tie_share_the_formulas_choice() -> None:
    decided = logged(1, 1)[0]._replace(load_balances=(1.0, 1.0, 0.0))

    assert formula_policy(0.0)(decided).tolist() == [0.5, 0.5, 0.0]


def test_too_few_decisions_are_refused(model: Model) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        of_formula(logged(99, 1), model)

    assert caught.value.reason == "TOO_FEW_DECISIONS"
    assert caught.value.metadata == {"decision_count": "99", "needed": "100"}
