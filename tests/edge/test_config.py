from __future__ import annotations

import pytest

from services.edge.config import Settings
from services.kernel.config import SettingsError, load


def test_in_production_only_pages_of_the_same_host_connect() -> None:
    assert load(Settings, {}).origins == ("self", "none")
    assert load(Settings, {"PODIUM_PROFILE": "production"}).origins == ("self",)


def test_origins_are_a_list() -> None:
    settings = load(Settings, {"PODIUM_EDGE_ORIGINS": "self, https://podium.example:8443"})

    assert settings.origins == ("self", "https://podium.example:8443")


@pytest.mark.parametrize("text", ["*", "podium.example", "https://a.example/path", "ws://a", ","])
def test_what_is_no_origin_is_a_fault(text: str) -> None:
    with pytest.raises(SettingsError, match="PODIUM_EDGE_ORIGINS"):
        load(Settings, {"PODIUM_EDGE_ORIGINS": text})


def test_all_faults_are_told_at_once() -> None:
    environ = {
        "PODIUM_EDGE_PORT": "http",
        "PODIUM_EDGE_CONNECTIONS_MAX": "0",
        "PODIUM_ROUTING_ADDRESS": "nowhere",
    }

    with pytest.raises(SettingsError) as caught:
        load(Settings, environ)

    assert len(caught.value.faults) == 3


def test_only_on_loopback_are_the_names_limited_by_default() -> None:
    assert "localhost" in load(Settings, {}).known_hosts
    assert load(Settings, {"PODIUM_HOST": "0.0.0.0"}).known_hosts == frozenset()
    named = {"PODIUM_HOST": "0.0.0.0", "PODIUM_EDGE_HOSTS": "podium.example"}
    assert load(Settings, named).known_hosts == {"podium.example"}
