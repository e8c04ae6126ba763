from __future__ import annotations

import pytest

from podium.sdk.pace import Pace


def test_starts_come_evenly() -> None:
    pace = Pace(rate_per_s=4)

    assert [pace.take(10.0) for _ in range(4)] == [0, 0.25, 0.5, 0.75]
    assert pace.wait_s(10.5) == 0.5
    assert pace.wait_s(11.0) == 0


def test_a_quiet_time_allows_a_burst_and_no_more() -> None:
    pace = Pace(rate_per_s=2, burst=3)

    assert [pace.take(100.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]


def test_a_pause_holds_all_starts_back() -> None:
    pace = Pace(rate_per_s=1000, burst=10)
    pace.pause(20.0)
    pace.pause(15.0)

    assert pace.wait_s(12.0) == 8.0
    assert pace.take(12.0) == 8.0
    assert pace.wait_s(21.0) == 0


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_is_none_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="a rate is above 0"):
        Pace(rate, burst)
