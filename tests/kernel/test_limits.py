from __future__ import annotations

import pytest

from services.kernel.limits import TokenBucket


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=3)

    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.1) == 0.0
    assert bucket.take(100.1) > 0.0


def test_waiting_as_long_as_told_is_enough() -> None:
    bucket = TokenBucket(rate_per_s=3, burst=1)
    now_s = 0.0
    for _ in range(1_000):
        wait_s = bucket.take(now_s)
        if wait_s:
            now_s += wait_s
            assert bucket.take(now_s) == 0.0

    assert now_s == pytest.approx(1_000 / 3, rel=0.01)


def test_a_refused_take_costs_nothing() -> None:
    bucket = TokenBucket(rate_per_s=1, burst=1)
    bucket.take(0.0)
    for _ in range(100):
        bucket.take(0.5)

    assert bucket.take(1.0) == 0.0


def test_more_than_the_burst_passes_when_full_and_leaves_a_debt() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=5)

    assert bucket.take(0.0, 20) == 0.0
    assert bucket.take(1.0) == pytest.approx(0.6)
    assert bucket.take(1.6) == 0.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=1)
    bucket.take(100.0)

    assert bucket.take(50.0) > 0.0
    assert bucket.take(100.05) > 0.0
