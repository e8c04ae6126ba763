from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.task_scheduler.adapters.calendar import Calendar

BERLIN = "Europe/Berlin"


def fires(cron: str, zone: str, begin: str, count: int = 3) -> list[str]:
    """Return the next times in UTC, found one from the other as the scheduler does."""
    calendar = Calendar()
    at_ms = round(datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    found = []
    for _ in range(count):
        at_ms = calendar(cron, zone, at_ms)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
        found.append(moment.strftime("%m-%dT%H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "begin", "expected"),
    [
        ("*/15 * * * *", "UTC", "2026-01-01T00:00", ["01-01T00:15", "01-01T00:30", "01-01T00:45"]),
        ("0 9 * * 1-5", "UTC", "2026-01-02T10:00", ["01-05T09:00", "01-06T09:00", "01-07T09:00"]),
        ("@daily", "Asia/Tokyo", "2026-01-01T12:00", ["01-01T15:00", "01-02T15:00", "01-03T15:00"]),
        ("30 4 29 2 *", "UTC", "2026-01-01T00:00", ["02-29T04:30"] * 3),
        # Clocks go forward on 2026-03-29: 02:30 is left out, and fires when they have.
        ("30 2 * * *", BERLIN, "2026-03-28T00:00", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        # They go back on 2026-10-25: 02:30 comes twice, and fires once.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["10-25T00:30", "10-26T01:30", "10-27T01:30"]),
        # Wildcards go by the time that passes: each of the hours, also the one that comes twice.
        ("0 * * * *", BERLIN, "2026-10-25T01:30", ["10-25T00:00", "10-25T01:00", "10-25T02:00"]),
        ("0 * * * *", BERLIN, "2026-03-29T00:30", ["03-29T00:00", "03-29T01:00", "03-29T02:00"]),
        # So do steps, of minutes as of hours, though the other of the two may be fixed.
        ("*/59 2 * * *", BERLIN, "2026-10-25T01:30", ["10-25T00:00", "10-25T00:59", "10-25T01:00"]),
        ("30 */2 * * *", BERLIN, "2026-10-25T01:30", ["10-25T00:30", "10-25T01:30", "10-25T03:30"]),
        ("*/30 2 * * *", BERLIN, "2026-03-29T00:30", ["03-30T00:00", "03-30T00:30", "03-31T00:00"]),
        ("30 */2 * * *", BERLIN, "2026-03-29T00:45", ["03-29T02:30", "03-29T04:30", "03-29T06:30"]),
        # Lists and ranges name their times: each of them once.
        ("0,30 2 * * *", BERLIN, "2026-10-25T01:30", ["10-25T00:00", "10-25T00:30", "10-26T01:00"]),
        ("30 1-3 * * *", BERLIN, "2026-03-29T01:45", ["03-29T01:00", "03-29T01:30", "03-29T23:30"]),
    ],
)
def test_it_fires_as_cron_would(cron: str, zone: str, begin: str, expected: list[str]) -> None:
    assert fires(cron, zone, begin) == expected


def test_asked_within_the_hour_that_comes_twice_it_never_goes_back() -> None:
    calendar = Calendar()
    second_reading = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=ZoneInfo(BERLIN))
    at_ms = round(second_reading.timestamp() * 1000)

    assert calendar("30 2 * * *", BERLIN, at_ms) > at_ms


def test_between_two_milliseconds_nothing_is_lost() -> None:
    calendar = Calendar()

    assert calendar("* * * * *", "UTC", 59_999) == 60_000
    assert calendar("* * * * *", "UTC", 60_000) == 120_000


@pytest.mark.parametrize(
    "cron",
    ["", "* * * *", "* * * * * *", "61 * * * *", "* * 30 2 *", "@every 5m", "@never", "a b c d e"],
)
def test_an_expression_that_cannot_be_read_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Calendar().check_cron(cron, 0)


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "/etc/localtime", "Europe"])
def test_a_zone_that_is_not_there_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        Calendar().check_zone(zone)


def test_what_is_right_is_taken() -> None:
    calendar = Calendar()
    for cron in ("@hourly", "0 0 29 2 *", "*/5 8-18 * * MON-FRI"):
        calendar.check_cron(cron, 0)
    for zone in ("UTC", BERLIN, "America/Argentina/Buenos_Aires"):
        calendar.check_zone(zone)
