from __future__ import annotations

import pytest

from examples.review.figures import Latency, duration, many, mean, percentile, share, size


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (90, 90), (99, 99), (100, 100)]
)
def test_a_percentile_is_the_least_value_that_covers_it(percent: int, expected: int) -> None:
    assert percentile(range(1, 101), percent) == expected


def test_a_latency_is_summarised_in_any_order() -> None:
    assert Latency.of([3.0, 1.0, 2.0]) == Latency(3, 2.0, 3.0, 3.0, 3.0)
    assert Latency.of([]) == Latency()
    assert mean([]) == 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0.4 ms"),
        (0.038, "38 ms"),
        (2.06, "2.1 s"),
        (65, "1:05 min"),
        (3599, "59:59 min"),
    ],
)
def test_a_duration_reads_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_sizes_and_shares_read_as_people_say_them() -> None:
    assert [size(n) for n in (812, 14_200, 37_680_000)] == ["812 bytes", "14.2 kB", "37.7 MB"]
    assert [many(1, "task"), many(2_000, "task")] == ["1 task", "2,000 tasks"]
    assert [share(1, 3), share(0, 5), share(0, 0)] == ["33 %", "0 %", "-"]
