from __future__ import annotations

import pytest

from services.agent_registry.core.statistics import (
    Statistics,
    TypeStatistics,
    half_life_outcomes,
    types_len_max,
)


def test_recent_outcomes_weigh_more() -> None:
    numbers = TypeStatistics()
    for _ in range(200):
        numbers.add(succeeded=False, run_s=0.0)
    for _ in range(half_life_outcomes):
        numbers.add(succeeded=True, run_s=2.0)

    assert numbers.success_rate == pytest.approx(0.5, abs=0.05)
    assert (numbers.completed, numbers.failed) == (half_life_outcomes, 200)
    assert numbers.mean_run_s == pytest.approx(2.0)


def test_the_mean_time_follows_a_change() -> None:
    numbers = TypeStatistics()
    for _ in range(300):
        numbers.add(succeeded=True, run_s=1.0)
    for _ in range(half_life_outcomes):
        numbers.add(succeeded=True, run_s=3.0)

    assert numbers.mean_run_s == pytest.approx(2.0, abs=0.05)


def test_an_agent_without_outcomes_is_given_credit() -> None:
    numbers = TypeStatistics()

    assert (numbers.success_rate, numbers.mean_run_s) == (1.0, 0.0)


def test_a_failure_can_be_taken_back() -> None:
    numbers = TypeStatistics()
    numbers.add(succeeded=True, run_s=1.0)
    numbers.add(succeeded=False, run_s=0.0)

    numbers.retract_failure()

    assert numbers.failed == 0
    assert numbers.success_rate == pytest.approx(1.0, abs=0.02)


def test_the_number_of_types_is_bounded() -> None:
    statistics = Statistics()
    statistics.of("kept").add(succeeded=True, run_s=1.0)
    for number in range(types_len_max):
        statistics.of(f"t{number}")
        statistics.of("kept")

    assert len(statistics.items()) == types_len_max
    assert statistics.of("kept").completed == 1
