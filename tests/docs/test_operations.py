"""What the page about running the suite names is there."""

from __future__ import annotations

import re
from pathlib import Path

from services.kernel import names
from services.task_scheduler.adapters import log_command as log
from tests.bench.scheduler import PARTS
from tests.support.settings import SERVICES, declared

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def found(pattern: str) -> set[str]:
    return set(re.findall(pattern, PAGE))


def test_its_settings_are_read_by_a_service() -> None:
    read = set().union(*(declared(service).defaults for service in SERVICES))

    assert found(r"PODIUM_[A-Z_]+[A-Z]") - read == set()


def test_its_metrics_are_served() -> None:
    served = {value for name, value in vars(names).items() if name.startswith("metric_")}

    assert found(r"`(podium_\w+)`") - served == set()


def test_its_places_exist() -> None:
    for place in found(r"`(deploy/[\w/.-]+)`"):
        assert (ROOT / place).exists(), place


def test_its_commands_are_known(capsys) -> None:
    for command in found(r"task_scheduler log (\w+)"):
        assert log.main([command, *["/nowhere/at/all"] * (2 if command == "backup" else 1)]) == 1
        assert "there is no journal" in capsys.readouterr().err


def test_its_figures_can_be_measured_again() -> None:
    assert found(r"bench-scheduler ARGS=(\w+)") | found(r"`ARGS=(\w+)`") <= PARTS.keys()


def test_its_reasons_are_given_by_the_services() -> None:
    source = "".join(
        path.read_text("utf-8")
        for service in ("task_scheduler", "agent_registry")
        for path in (ROOT / "services" / service).rglob("*.py")
    )

    reasons = found(r"\(`([A-Z]+_[A-Z_]+)`\)")
    assert len(reasons) >= 4
    assert all(f'"{reason}"' in source for reason in reasons)
