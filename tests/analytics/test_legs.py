from __future__ import annotations

import pytest

from podium.v1.event_pb2 import Event
from services.analytics.adapters.legs import SERVICES, TYPES, Collected, Legs
from services.analytics.core.trace import Span
from services.kernel.spans import Tracer, leg_id
from tests.analytics.traces import TRACE_ID
from tests.support.eventlog import BEGIN_MS, completed, event

PARENT_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


def traced(made: Event, *, epoch: int = 7, attempt: int = 1) -> Event:
    made.traceparent, made.lease_epoch, made.attempt = TRACEPARENT, epoch, attempt
    return made


def started(
    *, at_s: float, sent_s: float, route_s: float = 0.002, accept_s: float = 0.001
) -> Event:
    made = traced(event("STARTED", agent_id="ada", at_s=at_s))
    decision = made.started.decision
    decision.policy, decision.probability, decision.eligible_count = "learned", 0.75, 3
    decision.candidate_agent_ids.extend(["ada", "bob"])
    decision.assign_time.FromMilliseconds(BEGIN_MS + round(sent_s * 1_000))
    decision.route_duration.FromNanoseconds(round(route_s * 1e9))
    decision.accept_duration.FromNanoseconds(round(accept_s * 1e9))
    return made


def failed(kind: str, *, at_s: float, reason: str = "", run_s: float | None = None) -> Event:
    made = traced(event(kind, at_s=at_s))
    made.failed.failure.reason = reason
    if run_s is not None:
        made.failed.run_duration.FromNanoseconds(round(run_s * 1e9))
    return made


def read(*events: Event) -> list[Span]:
    legs = Legs()
    return [leg for each in events for leg in legs.take(each)]


def times(leg: Span) -> tuple[float, float]:
    """Returns begin and end in ms after the beginning."""
    begin_ms = leg.start_ns / 1e6 - BEGIN_MS
    return round(begin_ms, 3), round(begin_ms + leg.duration_ns / 1e6, 3)


def whole() -> list[Event]:
    return [
        traced(event("CREATED")),
        traced(event("QUEUED"), epoch=0, attempt=0),
        traced(event("ASSIGNED", at_s=0.010)),
        started(at_s=0.016, sent_s=0.014),
        traced(completed("ada", run_s=0.5, at_s=0.520)),
    ]


def test_the_events_of_a_task_are_its_legs() -> None:
    legs = {leg.name: leg for leg in read(*whole())}

    assert list(legs) == ["queue", "route", "assign", "complete"]
    assert times(legs["queue"]) == (0, 10)
    assert times(legs["route"]) == (12, 14)
    assert times(legs["assign"]) == (14, 15)
    assert times(legs["complete"]) == (514, 520)
    assert {leg.trace_id for leg in legs.values()} == {TRACE_ID}
    below_submit = [legs[name].parent_span_id for name in ("queue", "route", "complete")]
    assert below_submit == [PARENT_ID] * 3
    assert legs["assign"].parent_span_id == legs["route"].span_id
    services = [leg.service for leg in legs.values()]
    assert services == ["task_scheduler", "routing", "routing", "task_scheduler"]


def test_the_agents_span_hangs_on_the_leg_that_it_is_told_of() -> None:
    assign = next(leg for leg in read(*whole()) if leg.name == "assign")

    assert assign.span_id == leg_id("assign", "t-1", 7)


def test_a_leg_says_what_it_is_about_and_why_the_agent_was_chosen() -> None:
    legs = {leg.name: leg for leg in read(*whole())}

    for leg in legs.values():
        assert leg.attributes["task.id"] == "t-1"
        assert leg.attributes["task.type"] == "words"
        assert leg.attributes["task.attempt"] == "1"
        assert leg.error == ""
    route = legs["route"].attributes
    assert route["agent.id"] == legs["assign"].attributes["agent.id"] == "ada"
    assert route["decision.policy"] == "learned"
    assert route["decision.probability"] == "0.75"
    assert route["decision.eligible"] == "3"
    assert route["decision.candidates"] == "ada,bob"
    assert legs["complete"].attributes["task.outcome"] == "completed"


def test_each_attempt_has_legs_of_its_own() -> None:
    again = whole()[1:]
    for each in again[1:]:
        each.lease_epoch, each.attempt = 8, 2
    first = [*whole()[:-1], failed("ATTEMPT_FAILED", at_s=0.2, reason="FLAKY")]

    legs = read(*first, *again)

    assert [leg.name for leg in legs].count("queue") == 2
    assert len({leg.span_id for leg in legs}) == len(legs) == 7


@pytest.mark.parametrize("kind", ["FAILED", "CANCELED", "EXPIRED", "REJECTED"])
def test_every_end_is_a_leg(kind: str) -> None:
    [*_, leg] = read(*whole()[:-1], failed(kind, at_s=0.9, reason="BAD_INPUT", run_s=0.8))

    assert (leg.name, times(leg)) == ("complete", (814, 900))
    assert leg.attributes["task.outcome"] == kind.lower()
    assert leg.error == ("BAD_INPUT" if kind == "FAILED" else "")


def test_a_task_that_was_revived_ends_twice() -> None:
    ends = [failed("FAILED", at_s=1.0), failed("FAILED", at_s=2.0)]
    for seq, end in enumerate(ends, 10):
        end.lease_epoch, end.seq = 0, seq

    assert len({leg.span_id for leg in read(*ends)}) == 2


def test_a_task_that_never_ran_ends_at_once() -> None:
    [leg] = read(traced(event("QUEUED")), failed("CANCELED", at_s=4.0))

    assert times(leg) == (4_000, 4_000)


def test_clocks_that_disagree_make_no_leg_that_ends_before_it_begins() -> None:
    [leg] = read(started(at_s=0.0, sent_s=0.5), traced(completed("ada", run_s=1.0, at_s=0.1)))[2:]

    assert leg.duration_ns == 0
    assert times(leg) == (100, 100)


def test_what_an_older_router_did_not_tell_is_not_made_up() -> None:
    silent = traced(event("STARTED", agent_id="ada", at_s=0.016))

    assert [leg.name for leg in read(*whole()[:3], silent, whole()[4])] == ["queue", "complete"]


def test_a_task_without_a_trace_has_no_legs() -> None:
    events = whole()
    for each in events:
        each.traceparent = ""

    assert read(*events) == []


def test_ended_tasks_are_forgotten_and_of_too_many_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.analytics.adapters.legs.tasks_len_max", 2)
    legs = Legs()
    for task_id in ("t-1", "t-2", "t-3"):
        legs.take(traced(event("QUEUED", task_id)))

    told = [len(legs.take(traced(event("ASSIGNED", task_id)))) for task_id in ("t-2", "t-3", "t-1")]

    assert told == [1, 1, 0]
    legs.take(traced(event("COMPLETED", "t-3")))
    assert legs.take(traced(event("ASSIGNED", "t-3"))) == []


def test_a_collector_gets_what_ended_since_then() -> None:
    tracers = {service: Tracer() for service in SERVICES}
    collected = Collected(tracers, BEGIN_MS + 12)

    for each in whole():
        if each.type in TYPES:
            collected.take(each)

    assert [span[3] for span in tracers["task_scheduler"].take(9)] == ["complete"]
    route, assign = tracers["routing"].take(9)
    assert (route[0], route[2], route[3]) == (int(TRACE_ID, 16), int(PARENT_ID, 16), "route")
    assert (assign[2], assign[3]) == (route[1], "assign")
    assert ("decision.policy", "learned") in route[6]
    assert assign[5] - assign[4] == 1_000_000
