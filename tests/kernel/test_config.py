from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from services.kernel.config import (
    Common,
    SettingsError,
    describe,
    load,
    misspelled,
    setting,
    variable,
    where,
)
from services.kernel.parsers import as_count, as_port, as_seconds


@dataclass(frozen=True)
class Settings(Common):
    port: int = setting("PODIUM_TOY_PORT", 17_701, "gRPC port", parse=as_port)
    heartbeat_s: float = setting(
        "PODIUM_HEARTBEAT_S", 15.0, "heartbeat interval", parse=as_seconds, production=30.0
    )
    max_retries: int = setting("PODIUM_MAX_RETRIES", 3, "retries", parse=as_count, production=5)
    origins: tuple[str, ...] = setting("PODIUM_TOY_ORIGINS", ("self", "none"), "who may connect")
    hosts: tuple[str, ...] = setting("PODIUM_TOY_HOSTS", (), "own names")


def test_without_variables_the_defaults_of_development_hold() -> None:
    settings = load(Settings, {})

    assert (settings.port, settings.heartbeat_s, settings.max_retries) == (17_701, 15.0, 3)
    assert (settings.profile, settings.log_level, settings.auth) == ("development", "debug", "off")


def test_the_production_profile_has_its_own_defaults() -> None:
    settings = load(Settings, {"PODIUM_PROFILE": "production"})

    assert (settings.heartbeat_s, settings.max_retries) == (30.0, 5)
    assert (settings.log_level, settings.auth) == ("info", "jwt")


def test_a_variable_beats_the_profile_and_an_empty_one_does_not() -> None:
    environ = {
        "PODIUM_PROFILE": "production",
        "PODIUM_HEARTBEAT_S": " 250ms ",
        "PODIUM_MAX_RETRIES": "",
    }
    settings = load(Settings, environ)

    assert (settings.heartbeat_s, settings.max_retries) == (0.25, 5)


def test_all_faults_are_told_at_once_by_name() -> None:
    environ = {
        "PODIUM_TOY_PORT": "99999",
        "PODIUM_PROFILE": "staging",
        "PODIUM_HEARTBEAT_S": "soon\n\x1b[2J",
    }
    with pytest.raises(SettingsError) as caught:
        load(Settings, environ)

    assert sorted(fault.split("=")[0] for fault in caught.value.faults) == sorted(environ)
    assert "\x1b" not in str(caught.value) and str(caught.value).count("\n") == 2
    assert "must be a whole number from 0 to 65535" in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    settings = load(Settings, {})

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]  # what is tested


def test_a_misspelled_variable_is_pointed_out_and_one_of_another_service_is_not() -> None:
    environ = {
        "PODIUM_TOY_PROT": "1",
        "PODIUM_HEARTBEATS_S": "1",
        "PODIUM_ROUTING_PORT": "1",
        "PODIUM_MAX_RETRIES": "1",
        "HOME": "/",
    }
    sentences = misspelled([Settings], environ)

    assert [sentence.split()[0] for sentence in sentences] == [
        "PODIUM_HEARTBEATS_S",
        "PODIUM_TOY_PROT",
    ]
    assert sentences[1].endswith("did you mean PODIUM_TOY_PORT?")


def test_help_lists_every_setting_with_both_defaults() -> None:
    blocks = describe(Settings)
    declared = [f for f in dataclasses.fields(Settings) if "setting" in f.metadata]

    assert len(blocks) == len(declared)
    assert any("PODIUM_HEARTBEAT_S" in b and "15; in production 30" in b for b in blocks)


def test_help_spells_defaults_as_they_are_set() -> None:
    blocks = "\n".join(describe(Settings))

    assert "who may connect (default: self,none)" in blocks
    assert "own names (default: unset)" in blocks


def test_an_address_is_told_with_the_variable_that_names_it() -> None:
    settings = load(Settings, {"PODIUM_ANALYTICS_ADDRESS": "10.0.0.1:9"})

    assert where(settings, "analytics_address") == "10.0.0.1:9 (PODIUM_ANALYTICS_ADDRESS)"


def test_the_variable_of_a_field_can_be_named_to_people() -> None:
    assert variable(Settings, "port") == "PODIUM_TOY_PORT"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [("", "127.0.0.1:9"), ("off", ""), ("http://collector:4317", "collector:4317")],
)
def test_spans_go_to_analytics_unless_told_otherwise(endpoint: str, expected: str) -> None:
    environ = {"PODIUM_ANALYTICS_ADDRESS": "127.0.0.1:9", "PODIUM_OTLP_ENDPOINT": endpoint}

    assert load(Settings, environ).spans_endpoint == expected
