from __future__ import annotations

import pytest

from services.kernel.config import SettingsError, load
from services.task_scheduler.config import Settings


def test_profiles_differ_in_retries() -> None:
    assert load(Settings, {}).max_retries == 3
    assert load(Settings, {"PODIUM_PROFILE": "production"}).max_retries == 5


def test_all_faults_are_told_at_once() -> None:
    environ = {
        "PODIUM_TASK_SCHEDULER_PORT": "seven",
        "PODIUM_JOURNAL": "paper",
        "PODIUM_LEASE_TTL_S": "-1",
        "PODIUM_FAILPOINTS": "nowhere=crash",
    }

    with pytest.raises(SettingsError) as wrong:
        load(Settings, environ)

    assert len(wrong.value.faults) == len(environ)


@pytest.mark.parametrize(
    "text", ["after_sync=explode", "after_sync", "=crash", "after_sync=crash@"]
)
def test_misspelled_failpoints_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="point=action"):
        load(Settings, {"PODIUM_FAILPOINTS": text})


def test_several_failpoints_may_be_set() -> None:
    text = "after_sync=crash@20, before_reply=delay:50"

    assert load(Settings, {"PODIUM_FAILPOINTS": text}).failpoints == text


def test_rates_are_a_number_in_a_time_by_key() -> None:
    environ = {"PODIUM_RATE_LIMITS": "api=60/1m, customer-*=10/250ms"}

    rates = load(Settings, environ).rate_limits

    assert dict(rates) == {"api": (60, 60_000), "customer-*": (10, 250)}
    assert str(rates) == "api=60/60s,customer-*=10/0.25s"


@pytest.mark.parametrize("text", ["api", "api=60", "api=60/", "api=0/1m", "=1/1m", "api=1/8d"])
def test_rates_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="PODIUM_RATE_LIMITS"):
        load(Settings, {"PODIUM_RATE_LIMITS": text})
