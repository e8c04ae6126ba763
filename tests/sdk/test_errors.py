from __future__ import annotations

import pytest

from podium.sdk import errors
from podium.sdk.settings import Settings, setting_of


def test_every_canonical_code_has_one_class() -> None:
    by_code = errors._BY_CODE

    assert len(by_code) == 13
    assert all(kind.code == code for code, kind in by_code.items())


def test_violations_are_part_of_what_is_told() -> None:
    violation = errors.Violation("tasks[0].priority", "must be 0 to 9")
    error = errors.InvalidArgument("INVALID_FIELD", "not valid", violations=[violation])

    assert str(error) == "not valid (tasks[0].priority: must be 0 to 9)"


def test_a_violation_that_is_the_message_is_told_once() -> None:
    violation = errors.Violation("priority", "must be 0 to 9")
    error = errors.InvalidArgument(
        "INVALID_FIELD", "priority must be 0 to 9.", violations=[violation]
    )

    assert str(error) == "priority must be 0 to 9."


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_environment(
        {
            "PODIUM_TASK_SCHEDULER_ADDRESS": "tasks:1",
            "PODIUM_ANALYTICS_ADDRESS": "spans:2",
            "PODIUM_TOKEN": "secret",
        }
    )

    assert (settings.task_scheduler, settings.routing) == ("tasks:1", "127.0.0.1:7703")
    assert settings.metadata == (("authorization", "Bearer secret"),)
    assert setting_of("routing") == "PODIUM_ROUTING_ADDRESS"


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("", "spans:2"),
        ("off", ""),
        ("http://collector:4317/", "collector:4317"),
        ("collector:4317", "collector:4317"),
    ],
)
def test_spans_go_to_the_endpoint_or_to_analytics_or_nowhere(endpoint: str, target: str) -> None:
    assert Settings(analytics="spans:2", otlp_endpoint=endpoint).span_target == target
