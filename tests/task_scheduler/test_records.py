from __future__ import annotations

from services.task_scheduler.core.event import RateLimit, Terms
from services.task_scheduler.core.pauses import Pause, Scope
from services.task_scheduler.core.records import plain, record
from services.task_scheduler.core.states import State


def test_a_record_becomes_its_named_fields_through_and_through() -> None:
    assert plain(Pause(Scope("red", "work"), "why", 7)) == {
        "scope": {"tenant": "red", "task_type": "work"},
        "reason": "why",
        "since_ms": 7,
    }
    rates = plain(Terms(rate_limits=(RateLimit("api", 2, 1_000),)))["rate_limits"]
    assert rates == ({"key": "api", "limit": 2, "period_ms": 1_000},)
    assert (plain(State.QUEUED), type(plain(State.QUEUED))) == (int(State.QUEUED), int)


def test_fields_of_another_version_are_left_out_and_those_it_lacks_are_as_at_first() -> None:
    assert record(Scope, {"tenant": "red", "task_type": "work", "mood": "good"}) == Scope(
        "red", "work"
    )
    assert record(Terms, {"priority": 7}) == Terms(priority=7)
