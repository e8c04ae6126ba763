"""Off-policy evaluation: how another policy would have done on the decisions that were logged.

Each logged decision tells who could have been chosen, with which probability the agent was, and
how that went. Weighting outcomes by how much likelier the other policy's choice was gives SNIPS;
weighting only what surprised the model, and adding what it expected, gives the doubly robust
estimate, which is right when either the probabilities or the expectations are. Both divide by the
sum of the weights, since a few rare choices would else weigh more than everything there is.

Only the best candidates are logged, so a policy is judged by what it would choose among those. An
estimate for a policy that never draws, as the formula, rests on the few decisions in which it
agrees with what was done: its interval says how far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.kernel.errors import FailedPrecondition
from services.ml_router.core.features import AgentFeatures, TaskFeatures, gather
from services.ml_router.core.model import Model
from services.ml_router.core.scoring import score

decisions_len_min = 100
"""Fewer say nothing that an interval could express."""

# A logged probability below it would let one decision outweigh hundreds.
_probability_min = 0.002
_draws = 64
_normal_95 = 1.959964

Floats = npt.NDArray[np.float64]


class Decided(NamedTuple):
    """One logged decision and its outcome; candidates as columns."""

    task_type: str
    size: float
    chosen: int
    """Index of the chosen candidate."""
    probability: float
    success: bool
    agent_ids: tuple[str, ...]
    capability_matches: tuple[float, ...]
    load_balances: tuple[float, ...]
    priority_bonuses: tuple[float, ...]


class Estimate(NamedTuple):
    """How a policy would have done: shares of attempts that succeed."""

    doubly_robust: float
    snips: float
    half_width: float
    """Of the 95 % interval of the doubly robust estimate."""
    decision_count: int
    logged: float
    """What was really achieved."""


Policy = Callable[[Decided], Floats]
"""Gives the probability of choosing each candidate."""


def evaluate(decisions: Sequence[Decided], policy: Policy, model: Model) -> Estimate:
    """Estimate the success rate of `policy`.

    Raises:
        FailedPrecondition: TOO_FEW_DECISIONS.
    """
    count = len(decisions)
    if count < decisions_len_min:
        raise FailedPrecondition(
            "TOO_FEW_DECISIONS",
            f"{count} decisions with known outcomes are logged, {decisions_len_min} are needed:"
            " wait for more tasks.",
            metadata={"decision_count": str(count), "needed": str(decisions_len_min)},
        )
    rewards = np.array([decided.success for decided in decisions], np.float64)
    expected, surprises, weights = np.empty(count), np.empty(count), np.empty(count)
    for number, decided in enumerate(decisions):
        wanted = policy(decided)
        means = _expected(decided, model)
        expected[number] = wanted @ means
        surprises[number] = rewards[number] - means[decided.chosen]
        weights[number] = wanted[decided.chosen] / max(decided.probability, _probability_min)
    # Exploration leaves no candidate without weight, so the mean is above 0.
    weights /= max(float(weights.mean()), 1e-12)
    surprise = float((weights * surprises).mean())
    terms = expected + weights * (surprises - surprise)
    return Estimate(
        doubly_robust=min(max(float(expected.mean()) + surprise, 0.0), 1.0),
        snips=float((weights * rewards).mean()),
        half_width=_normal_95 * float(terms.std(ddof=1)) / count**0.5,
        decision_count=count,
        logged=float(rewards.mean()),
    )


def formula_policy(exploration_fraction: float) -> Policy:
    """Return the formula as a policy: the best score, and at random what explores."""

    def choose(decided: Decided) -> Floats:
        totals = (
            np.array(decided.capability_matches) * 20.0
            + np.array(decided.load_balances) * 100.0
            + np.array(decided.priority_bonuses)
        )
        best = (totals >= totals.max() - 1e-6).astype(np.float64)
        return _explored(best / best.sum(), exploration_fraction)

    return choose


def learned_policy(model: Model, generator: np.random.Generator) -> Policy:
    """Return the model as a policy: the shares of tempered draws that each candidate wins."""
    exploration_fraction = model.tuning.exploration_fraction

    def choose(decided: Decided) -> Floats:
        agents = _agents(decided)
        features = gather(model, [TaskFeatures(decided.task_type, decided.size)], agents)
        draw = generator.standard_normal((_draws, len(agents)), np.float32)
        winners = score(model, features, draw=draw).scores.argmax(axis=1)
        shares = np.bincount(winners, minlength=len(agents)) / _draws
        return _explored(shares, exploration_fraction)

    return choose


def _explored(shares: Floats, fraction: float) -> Floats:
    mixed: Floats = (1.0 - fraction) * shares + fraction / len(shares)
    return mixed


def _expected(decided: Decided, model: Model) -> Floats:
    features = gather(model, [TaskFeatures(decided.task_type)], _agents(decided))
    expected: Floats = features.agent_historical_performance[0].astype(np.float64)
    return expected


def _agents(decided: Decided) -> list[AgentFeatures]:
    columns = zip(decided.agent_ids, decided.load_balances, decided.capability_matches, strict=True)
    return [AgentFeatures(agent_id, 1.0 - free, match) for agent_id, free, match in columns]
