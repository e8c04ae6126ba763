from __future__ import annotations

from services.task_scheduler.core.event import Event, Terms, Usage
from services.task_scheduler.core.states import Kind


def test_usage_adds_up() -> None:
    assert Usage(1, 2, 0.5).plus(Usage(10, 20, 0.25)) == Usage(11, 22, 0.75)


def test_an_event_names_only_what_its_kind_needs() -> None:
    event = Event(1, Kind.QUEUED, "t", 5)

    assert event == Event(1, Kind.QUEUED, "t", 5, 0, 0, "", "", None)


def test_terms_of_tasks_that_ask_for_nothing_are_equal() -> None:
    assert Terms() == Terms()
    assert Terms().policy.max_retries == 3
