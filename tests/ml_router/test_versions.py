from __future__ import annotations

import pytest

from services.kernel.errors import NotFound
from services.ml_router.core.versions import Kept, Mode, Policy, Versions, kept_len_max


def kept(version: str, create_ms: int = 0) -> Kept:
    return Kept(version, create_ms, 1, 1, 1, 1)


def test_names_rise_even_when_the_clock_stands_or_goes_back() -> None:
    versions = Versions(Policy())

    names = [versions.next_version(now_ms)[0] for now_ms in (5_000, 5_000, 1_000, 9_999)]

    assert names == sorted(set(names))
    assert names[0] == "19700101T000005.000"


def test_names_rise_beyond_those_on_record() -> None:
    versions = Versions(Policy(), [kept("19700101T000010.000", 10_000)])

    assert versions.next_version(3_000) == ("19700101T000010.001", 10_001)


def test_versions_on_record_spread_out_with_age_and_are_bounded() -> None:
    versions = Versions(Policy())
    minute_ms = 60_000
    for minute in range(3 * 24 * 60):
        versions.keep(kept(f"{minute:06d}", minute * minute_ms))

    ages = [(3 * 24 * 60 - 1) - entry.create_ms // minute_ms for entry in versions.newest_first()]
    assert len(ages) == kept_len_max
    assert ages[:2] == [0, 1]
    assert ages[-1] > 2 * 24 * 60
    assert any(30 <= age <= 120 for age in ages)
    assert any(8 * 60 <= age <= 36 * 60 for age in ages)


def test_the_version_in_use_is_not_dropped() -> None:
    versions = Versions(Policy(), [kept("000000", 0), kept("000001", 1)])
    versions.pin("000001")
    for number in range(2, 100):
        versions.keep(kept(f"{number:06d}", number))

    assert versions.find("000001") is not None


def test_a_roll_back_leads_to_the_version_before_the_current() -> None:
    versions = Versions(Policy(), [kept("1"), kept("2"), kept("3")])

    assert versions.target("", "3") == "2"
    assert versions.target("", "2") == "1"
    assert versions.target("3", "2") == "3"


@pytest.mark.parametrize(("version", "current"), [("9", "3"), ("", "1")])
def test_there_must_be_such_a_version(version: str, current: str) -> None:
    versions = Versions(Policy(), [kept("1"), kept("2")])

    with pytest.raises(NotFound) as caught:
        versions.target(version, current)
    assert caught.value.reason == "MODEL_NOT_FOUND"


def test_setting_the_mode_ends_a_roll_back() -> None:
    versions = Versions(Policy(Mode.LIVE), [kept("1")])
    versions.pin("1")
    versions.set_mode(Mode.SHADOW, 0.5)

    assert versions.policy == Policy(Mode.SHADOW, 0.0, "")


def test_a_share_belongs_to_canary_alone() -> None:
    versions = Versions(Policy())
    versions.set_mode(Mode.CANARY, 0.25)

    assert versions.policy.canary_fraction == 0.25
