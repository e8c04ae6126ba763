from __future__ import annotations

import pytest

from podium.v1 import event_pb2, task_pb2, task_scheduler_pb2
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.adapters.messages import redated
from services.task_scheduler.core.event import (
    CatchUp,
    Completed,
    Event,
    Failed,
    Failure,
    Firing,
    Input,
    LettersDropped,
    Origin,
    Overlap,
    Plan,
    Progress,
    QueuePause,
    RateLimit,
    Retrying,
    Revived,
    ScheduleChange,
    Started,
    Terms,
    Usage,
)
from services.task_scheduler.core.orders import (
    Grant,
    Reclaim,
    Revoke,
    Settled,
    Settlement,
    Verdict,
    Verdicts,
    Welcome,
)
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Lease, Task
from tests.task_scheduler.rig import START, TRACEPARENT, Rig, plan

codec = ProtoCodec()
PAYLOAD = task_pb2.Payload(content_type="text/plain", data=b"bytes").SerializeToString()


def spec(**parts: object) -> task_pb2.TaskSpec:
    """A task with every default filled in, as the servicer hands it over."""
    message = task_pb2.TaskSpec(
        type="work",
        required_capabilities=["work"],
        priority=5,
        tenant="default",
        size_hint=1.0,
        traceparent=TRACEPARENT,
        payload=task_pb2.Payload.FromString(PAYLOAD),
    )
    message.retry_policy.max_retries = 3
    message.retry_policy.initial_backoff.FromMilliseconds(200)
    message.retry_policy.backoff_multiplier = 2.0
    message.retry_policy.max_backoff.FromMilliseconds(30_000)
    message.retry_policy.jitter = 1.0
    message.MergeFrom(task_pb2.TaskSpec(**parts))
    return message


def task() -> Task:
    rig = Rig()
    rig.credit()
    made = rig.submit(codec.created(spec(), principal="me", submitter_id="client"))
    return rig.task(made[0])


def event_of(frame: bytes) -> event_pb2.Event:
    events = task_scheduler_pb2.WatchEventsResponse.FromString(frame).events
    assert len(events) == 1
    return events[0]


def order_of(frame: bytes) -> task_scheduler_pb2.DispatchOrder:
    orders = task_scheduler_pb2.OpenDispatchResponse.FromString(frame).orders
    assert len(orders) == 1
    return orders[0]


FULL = Usage(1, 2, 0.5)
DETAILS = [
    (Kind.QUEUED, None),
    (Kind.STARTED, Started(b"", 2_500)),
    (Kind.STARTED, Started(b"\x0a\x02a1", 0)),
    (Kind.PROGRESS, Progress(0.5, "half", PAYLOAD, FULL, b"state", 3)),
    (Kind.PROGRESS, Progress(0.0, "", b"", None, b"", 1)),
    (Kind.COMPLETED, Completed(PAYLOAD, FULL, 7, 3_000_001, 0.25, b"h" * 32)),
    (Kind.COMPLETED, Completed(b"", None, 0, 0, None, b"h" * 32)),
    (Kind.ATTEMPT_FAILED, Failed(Failure("BAD", "why", True), 5, FULL, True)),
    (Kind.FAILED, Failed(Failure("BAD", "why"), 5, None, False, 99)),
    (Kind.HANDED_BACK, Failed(Failure("NACK_BUSY", "", True))),
    (Kind.RETRYING, Retrying(1_700_000_000_123, ("a1", "a2"))),
    (Kind.RETRYING, Retrying(1_700_000_000_000, ())),
    (Kind.INPUT_REQUIRED, Input(PAYLOAD)),
    (Kind.INPUT_REQUIRED, Input(PAYLOAD, 1_500_000, FULL)),
    (Kind.PAUSED, Failed(Failure("PAUSED", "why"), 5)),
    (Kind.RESUMED, None),
    (Kind.REQUEUED, Input(PAYLOAD)),
    (Kind.REQUEUED, Revived(1_700_000_000_123)),
    (Kind.REQUEUED, Revived(1_700_000_000_123, PAYLOAD)),
    (Kind.BLOCKED, None),
]


@pytest.mark.parametrize(("kind", "detail"), DETAILS)
def test_an_event_comes_back_as_it_went(kind: Kind, detail: object) -> None:
    made = task()
    event = Event(300, kind, made.task_id, 1_700_000_000_123, 129, 2, "agent-1", "router-1", detail)

    frame, _ = codec.seal(event, made, 0.0)

    assert codec.decode(event_of(frame)) == event


@pytest.mark.parametrize(("kind", "detail"), DETAILS)
def test_every_event_repeats_what_watchers_need_of_its_task(kind: Kind, detail: object) -> None:
    made = task()
    event = Event(1, kind, made.task_id, START.wall_ms, detail=detail)

    message = event_of(codec.seal(event, made, 0.0)[1])

    assert (message.task_type, message.tenant, message.traceparent) == (
        "work",
        "default",
        TRACEPARENT,
    )
    assert message.event_time.ToMilliseconds() == START.wall_ms


def test_a_created_event_holds_the_task_as_it_was_handed_over() -> None:
    rig = Rig()
    asked = spec(labels={"b": "2", "a": "1"}, request_id="q1", preferred_capabilities=["fast"])
    expected = task_pb2.TaskSpec()
    expected.CopyFrom(asked)
    created = codec.created(asked, principal="me", submitter_id="client", spec_hash=b"h")
    rig.submit(created)
    event = next(event for event in rig.events if event.kind is Kind.CREATED)

    frame, lean = codec.seal(event, rig.task(event.task_id), 0.0)
    message = event_of(frame)

    assert message.created.spec == expected
    assert (message.created.principal, message.created.submitter_id) == ("me", "client")
    assert codec.decode(message) == event
    expected.ClearField("payload")
    assert event_of(lean).created.spec == expected


DUE_MS = 1_700_000_060_000
TASKLESS_DETAILS = [
    (Kind.EPOCH_BEGUN, None),
    (Kind.QUEUE_PAUSED, QueuePause("red", "work", "why")),
    (Kind.QUEUE_RESUMED, QueuePause("", "work")),
    (Kind.DEAD_LETTERS_DROPPED, LettersDropped(299, 7)),
    (Kind.SCHEDULE_PAUSED, ScheduleChange("default", "nightly", principal="me")),
    (Kind.SCHEDULE_FIRED, ScheduleChange("default", "nightly", None, DUE_MS, Firing.CREATED)),
    (Kind.SCHEDULE_TRIGGERED, ScheduleChange("default", "nightly", None, DUE_MS, principal="me")),
    (
        Kind.SCHEDULE_FIRED,
        ScheduleChange("default", "nightly", None, DUE_MS, Firing.SKIPPED_MISSED, 7),
    ),
]


@pytest.mark.parametrize(("kind", "detail"), TASKLESS_DETAILS)
def test_an_event_about_no_task_comes_back_as_it_went(kind: Kind, detail: object) -> None:
    event = Event(300, kind, "", START.wall_ms, detail=detail)

    assert codec.decode(event_of(codec.seal(event, None, 0.0)[0])) == event


def test_a_schedule_comes_back_as_it_went_and_lean_without_its_payload() -> None:
    asked = spec(concurrency_keys=["k", "k", "schedule/nightly"], concurrency_limit=2)
    asked.ClearField("traceparent")
    created = codec.created(asked, principal="me")
    made = Plan("nightly", "@daily", "UTC", Overlap.QUEUE, CatchUp.ALL, 5_000, created)
    change = ScheduleChange("default", "nightly", made, principal="me")
    event = Event(300, Kind.SCHEDULE_CREATED, "", START.wall_ms, detail=change)

    frame, lean = codec.seal(event, None, 0.0)

    assert codec.decode(event_of(frame)) == event
    assert created.terms.concurrency_keys == ("k", "schedule/nightly")
    assert b"bytes" not in lean
    assert event_of(lean).tenant == "default"


def test_where_a_task_comes_from_is_told_to_watchers_and_agents() -> None:
    rig = Rig()
    parent = rig.submit_one()
    asked = spec(parent_task_id=parent.task_id)
    child = rig.task(rig.submit(codec.created(asked, principal="me"))[0])
    rig.core.recurrence.create("default", plan(task=codec.created(spec())), "me", rig.now)
    rig.advance(60)
    scheduled = list(rig.book.tasks.values())[-1]
    for task_of in (child, scheduled):
        event = next(e for e in rig.events if e.task_id == task_of.task_id)
        frame = codec.seal(event, task_of, 0.0)[0]
        assert codec.decode(event_of(frame)) == event
        message = event_of(frame)
        grant = order_of(codec.order(Grant(task_of, 1, 1, ""))).grant
        assert grant.spec == message.created.spec

    assert child.origin == Origin(parent.task_id, parent.task_id, 1)
    assert message.created.spec.schedule_id == "nightly"
    assert message.created.spec.schedule_time.ToMilliseconds() == scheduled.origin.schedule_ms


def test_lean_events_hold_no_payloads() -> None:
    made = task()
    for kind, detail in DETAILS:
        event = Event(1, kind, made.task_id, 0, detail=detail)
        _, lean = codec.seal(event, made, 0.0)
        assert b"bytes" not in lean
        assert b"state" not in lean


def test_an_event_without_payload_is_kept_once() -> None:
    made = task()
    frame, lean = codec.seal(Event(1, Kind.QUEUED, made.task_id, 0), made, 0.0)

    assert lean is frame


def test_terms_are_read_from_the_task_and_shared_when_equal() -> None:
    asked = spec(priority=9, sticky_key="k", dependency_policy=task_pb2.DEPENDENCY_POLICY_SKIP)
    asked.attempt_timeout.FromMilliseconds(1_500)
    asked.deadline.FromMilliseconds(1_800_000_000_000)
    asked.not_before.FromMilliseconds(1_750_000_000_000)
    asked.budget.max_cost = 2.5
    asked.budget.max_tokens = 100

    assert codec.created(asked).terms == Terms(
        priority=9,
        policy=RetryPolicy(),
        attempt_timeout_ms=1_500,
        deadline_ms=1_800_000_000_000,
        not_before_ms=1_750_000_000_000,
        skip_on_failed_dependency=True,
        max_cost=2.5,
        max_tokens=100,
        sticky_key="k",
    )
    assert codec.created(spec()).terms is codec.created(spec()).terms


def test_spans_are_read_and_become_times_when_a_task_is_taken_in() -> None:
    asked = spec()
    asked.deadline_after.FromMilliseconds(90_000)
    asked.delay.FromMilliseconds(1_500)
    created = codec.created(asked)
    assert (created.terms.deadline_after_ms, created.terms.delay_ms) == (90_000, 1_500)

    dated = task_pb2.TaskSpec.FromString(
        redated(created.head, 1_800_000_090_000, 1_800_000_001_500)
    )

    assert not dated.HasField("deadline_after") and not dated.HasField("delay")
    assert codec.created(dated).terms == created.terms.dated(1_800_000_000_000)


def test_rates_are_read_in_milliseconds() -> None:
    asked = spec(rate_limits=[task_pb2.RateLimit(key="api", limit=60)])
    asked.rate_limits[0].period.FromMilliseconds(1_500)

    assert codec.created(asked).terms.rate_limits == (RateLimit("api", 60, 1_500),)


def test_another_deadline_leaves_the_time_to_begin_as_it_was() -> None:
    asked = spec()
    asked.not_before.FromMicroseconds(1_750_000_000_000_001)

    dated = task_pb2.TaskSpec.FromString(redated(codec.created(asked).head, 0, 0))

    assert dated.not_before.ToMicroseconds() == 1_750_000_000_000_001


def test_capabilities_are_sorted_and_repeated_ones_dropped() -> None:
    asked = spec(required_capabilities=["gpu", "work", "a"])

    assert codec.created(asked).capabilities == ("a", "gpu", "work")


def test_fields_of_a_later_contract_are_kept() -> None:
    raw = spec().SerializeToString() + b"\xfa\x7f\x03new"
    created = codec.created(task_pb2.TaskSpec.FromString(raw))

    assert b"new" in created.head


def test_a_grant_holds_the_task_and_everything_for_its_next_attempt() -> None:
    made = task()
    made.excluded = ("a1", "a2")
    made.checkpoint = b"state"
    made.input = PAYLOAD
    made.attempt = 1

    grant = order_of(codec.order(Grant(made, 300, 7, "a9"))).grant

    assert (grant.task_id, grant.lease_epoch, grant.attempt) == (made.task_id, 300, 2)
    assert grant.spec == spec()
    assert (grant.class_id, list(grant.excluded_agent_ids)) == (7, ["a1", "a2"])
    assert (grant.checkpoint, grant.input.data, grant.sticky_agent_id) == (b"state", b"bytes", "a9")
    assert grant.queue_time.ToMilliseconds() == made.queued_ms


def test_the_other_orders_come_through() -> None:
    lease = Lease("00-1", 300)
    settled = order_of(codec.order(Settled(lease, Settlement.FENCED))).settled
    revoke = order_of(codec.order(Revoke(lease, "CANCELED"))).revoke
    reclaim = order_of(codec.order(Reclaim(frozenset({"b", "a"}), 3))).reclaim
    welcome = order_of(codec.order(Welcome(((lease, Verdict.KEEP),), 30.0))).welcome
    verdicts = order_of(codec.order(Verdicts("a1", ((lease, Verdict.CANCEL),)))).verdicts

    for one in (settled, revoke, welcome.verdicts[0], verdicts.verdicts[0]):
        assert (one.lease.task_id, one.lease.lease_epoch) == lease
    assert (list(reclaim.capabilities), reclaim.count) == (["a", "b"], 3)
    assert (settled.verdict, revoke.reason) == (3, "CANCELED")
    assert (welcome.lease_ttl.ToMilliseconds(), welcome.verdicts[0].verdict) == (30_000, 1)
    assert (verdicts.agent_id, verdicts.verdicts[0].verdict) == ("a1", 2)
