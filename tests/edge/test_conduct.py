from __future__ import annotations

from services.edge.core.conduct import Conduct, strikes_max, strikes_window_s
from services.kernel.limits import TokenBucket


def test_five_mistakes_within_a_minute_are_one_too_many() -> None:
    conduct = Conduct(TokenBucket(1, 1))

    verdicts = [conduct.strike(float(second)) for second in range(strikes_max)]

    assert verdicts == [False, False, False, False, True]


def test_mistakes_that_lie_apart_are_forgiven() -> None:
    conduct = Conduct(TokenBucket(1, 1))
    step_s = strikes_window_s / (strikes_max - 1) + 0.1

    assert not any(conduct.strike(index * step_s) for index in range(50))


def test_a_burst_passes_and_what_goes_on_after_it_is_too_fast() -> None:
    conduct = Conduct(TokenBucket(10, 3))

    assert [conduct.too_fast(0.0) for _ in range(4)] == [False, False, False, True]
    assert conduct.too_fast(0.2) is False


def test_a_lot_that_is_granted_counts_and_needs_no_clock() -> None:
    conduct = Conduct(TokenBucket(10, 8), lot=3)

    passed = 0
    while conduct.granted() or not conduct.too_fast(0.0):
        passed += 1

    assert passed == 8
    assert conduct.too_fast(0.1) is False
    assert conduct.granted() is False
