"""The compose file: the same services, addresses and hardening as the manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.settings import SERVICES, declared

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))
    return {name.replace("-", "_"): each for name, each in compose["services"].items()}


def test_each_service_runs_once_by_its_own_command(services: dict[str, Any]) -> None:
    commands = {name: each["command"] for name, each in services.items()}

    assert commands == {service: [f"services.{service}"] for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_reached_at_the_port_of_its_settings(
    services: dict[str, Any], service: str
) -> None:
    port = declared(service).port

    assert services[service]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert str(port) in services[service]["healthcheck"]["test"][-1]
    if service != "edge":  # no service dials the edge
        address = services[service]["environment"][f"PODIUM_{service.upper()}_ADDRESS"]
        assert address == f"{service.replace('_', '-')}:{port}"


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_rights_and_keeps_its_data(
    services: dict[str, Any], service: str
) -> None:
    one = services[service]

    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["volumes"] == [f"{service.replace('_', '-')}:/var/lib/podium"]


def test_every_setting_is_one_that_a_service_reads(services: dict[str, Any]) -> None:
    read = set().union(*(declared(service).defaults for service in SERVICES))

    for one in services.values():
        assert one["environment"].keys() - read == set()
