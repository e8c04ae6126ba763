from __future__ import annotations

from services.kernel.finetime import FineTime

BEGIN_US = 1_700_000_000_000_000


def told(fine: FineTime, wall_us: int, ahead_us: int = BEGIN_US) -> int:
    """Returns what is told of a moment at which the wall clock is so far ahead."""
    return fine.wall_us(wall_us // 1000, (wall_us - ahead_us) / 1e6)


def test_the_millisecond_is_that_of_the_wall_clock_and_times_go_on() -> None:
    fine = FineTime()
    moments = [BEGIN_US + 7_654 + 137 * number for number in range(200)]

    times = [told(fine, moment) for moment in moments]

    assert [time // 1000 for time in times] == [moment // 1000 for moment in moments]
    assert times == sorted(times)


def test_once_a_millisecond_has_been_seen_to_begin_it_is_exact() -> None:
    fine = FineTime()
    for moment in range(BEGIN_US, BEGIN_US + 5_000, 10):
        told(fine, moment)

    assert abs(told(fine, BEGIN_US + 9_123) - (BEGIN_US + 9_123)) <= 10


def test_a_wall_clock_that_was_set_is_followed() -> None:
    fine = FineTime()
    for moment in range(BEGIN_US, BEGIN_US + 5_000, 10):
        told(fine, moment)
    for back_us in (-3_600_000_000, 3_600_000_000, 700):
        set_us = BEGIN_US + back_us

        assert told(fine, set_us + 6_400, set_us) // 1000 == (set_us + 6_400) // 1000
