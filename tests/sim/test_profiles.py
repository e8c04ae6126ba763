from __future__ import annotations

from statistics import mean, median

import pytest

from podium.sim.crew import Plan
from podium.sim.profiles import PROFILES, SERVICE_TIMES, Behaviour, Worker

COUNT = 4_000


@pytest.mark.parametrize(
    ("name", "speed", "accuracy"),
    [
        ("fast_accurate", 0.8, 0.95),
        ("slow_precise", 1.5, 0.99),
        ("variable_load", None, 0.90),
    ],
)
def test_a_profile_is_as_fast_and_as_accurate_as_it_says(
    name: str, speed: float | None, accuracy: float
) -> None:
    worker = Worker(PROFILES[name], seed=7)
    times = [worker.duration_s("text.summarize", 0.0) for _ in range(COUNT)]

    if speed is not None:
        expected = SERVICE_TIMES["text.summarize"].median_ms / 1e3 * speed
        assert median(times) == pytest.approx(expected, rel=0.05)
    assert mean(worker.succeeds() for _ in range(COUNT)) == pytest.approx(accuracy, abs=0.02)


def test_a_variable_agent_changes_its_pace_from_phase_to_phase() -> None:
    worker = Worker(PROFILES["variable_load"], seed=7)
    by_phase = [
        median([worker.duration_s("text.summarize", now_s) for _ in range(200)])
        for now_s in range(0, 600, 30)
    ]

    assert max(by_phase) > 3 * min(by_phase)


def test_the_same_seed_does_the_same_again() -> None:
    def history(seed: int) -> list[float]:
        worker = Worker(PROFILES["variable_load"], seed)
        return [worker.duration_s("work", now) + worker.succeeds() for now in range(100)]

    assert history(1) == history(1) != history(2)


def test_failures_come_beside_the_profiles_own() -> None:
    worker = Worker(PROFILES["slow_precise"], 1, Behaviour(failure_rate=0.5, never_ack_rate=0.25))

    assert mean(worker.succeeds() for _ in range(COUNT)) == pytest.approx(0.495, abs=0.03)
    assert mean(worker.acks() for _ in range(COUNT)) == pytest.approx(0.75, abs=0.03)
    assert not worker.instant


def test_a_mixed_fleet_has_the_three_profiles_in_turn_and_ids_of_its_own() -> None:
    plan = Plan(agent_count=9, prefix="x")
    members = plan.members(0, 9)

    assert [m.worker.profile.name for m in members[:4]] == [
        "fast_accurate",
        "slow_precise",
        "variable_load",
        "fast_accurate",
    ]
    assert len({member.agent_id for member in members}) == 9


def test_hosts_share_the_agents_without_gap_or_overlap() -> None:
    plan = Plan(agent_count=10)

    assert plan.shares(3) == [(0, 4), (4, 3), (7, 3)]
    assert Plan(agent_count=2).shares(5) == [(0, 1), (1, 1)]
