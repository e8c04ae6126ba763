from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.core.histogram import Histogram, Summary, bucket, middle

durations = st.floats(1e-6, 1e6)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(bucket(value), value)
    return histogram


@given(durations)
def test_a_bucket_tells_its_values_within_two_percent(value: float) -> None:
    assert middle(bucket(value)) == pytest.approx(value, rel=0.02)


@given(st.lists(durations, min_size=1, max_size=200))
def test_percentiles_are_within_two_percent_of_the_exact_ones(values: list[float]) -> None:
    summary = filled(values).summary()

    exact = sorted(values)
    for share, told in ((0.5, summary.p50_s), (0.95, summary.p95_s), (0.99, summary.p99_s)):
        assert told == pytest.approx(exact[ceil(share * len(values)) - 1], rel=0.02)
    assert summary.max_s == max(values)
    assert summary.times == len(values)
    assert summary.mean_s == pytest.approx(sum(values) / len(values))


@given(st.lists(durations, max_size=50), st.lists(durations, max_size=50))
def test_merged_histograms_tell_what_one_would_have(left: list[float], right: list[float]) -> None:
    merged = filled(left)
    merged.merge(filled(right))

    one, two = merged.summary(), filled(left + right).summary()
    assert one[:5] == two[:5]
    assert one.mean_s == pytest.approx(two.mean_s)


def test_nothing_counted_is_all_zero() -> None:
    assert Histogram().summary() == Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e30])
def test_what_is_out_of_range_still_has_a_bucket(value: float) -> None:
    summary = filled([value]).summary()

    assert summary.max_s == value
    assert summary.p50_s <= max(value, 1e-6)
