from __future__ import annotations

import pytest

from services.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from services.task_scheduler.core.event import Failed, Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.states import Kind, State
from tests.task_scheduler.rig import START, Rig, created, facts


def test_a_submitted_task_is_created_and_queued() -> None:
    rig = Rig()
    task = rig.submit_one()

    assert rig.kinds(task) == [Kind.CREATED, Kind.QUEUED]
    assert task.state is State.QUEUED


def test_a_repeated_request_gives_the_first_task_and_no_event() -> None:
    rig = Rig()
    draft = created(request_id="q1", spec_hash=b"h")
    first = rig.submit(draft)
    seq = rig.book.seq

    assert rig.submit(draft) == first
    assert rig.book.seq == seq


def test_a_repeated_request_is_known_after_a_restart() -> None:
    rig = Rig()
    draft = created(request_id="q1", spec_hash=b"h")
    first = rig.submit(draft)
    again = rig.restarted()
    again.core.start(again.now)

    assert again.submit(draft) == first


def test_a_repeat_gets_its_answer_also_when_its_deadline_has_passed() -> None:
    rig = Rig()
    terms = Terms(deadline_ms=START.wall_ms + 1_000)
    draft = created(request_id="q1", spec_hash=b"h", terms=terms)
    first = rig.submit(draft)
    rig.advance(2.0)

    assert rig.submit(draft) == first
    with pytest.raises(InvalidArgument) as refused:
        rig.submit(draft._replace(request_id="q2"))
    assert refused.value.violations[0] == ("tasks[0].deadline", "must lie ahead")


def test_spans_count_from_when_a_task_is_taken_in_and_end_there() -> None:
    rig = Rig()
    rig.book.redate = lambda head, deadline_ms, start_ms: b"%d %d" % (deadline_ms, start_ms)
    rig.advance(10.0)
    began_ms = rig.now.wall_ms
    asked = Terms(deadline_after_ms=3_000, delay_ms=1_000)
    task = rig.submit_one(terms=asked, request_id="q1", spec_hash=b"h")

    assert task.terms == Terms(deadline_ms=began_ms + 3_000, not_before_ms=began_ms + 1_000)
    assert task.head == b"%d %d" % (began_ms + 3_000, began_ms + 1_000)
    assert task.state is State.CREATED
    # The log tells times alone: what it gives does not depend on when it is read.
    assert facts(rig.restarted(down_s=60.0).core) == facts(rig.core)
    rig.advance(1.0)
    assert task.state is State.QUEUED
    rig.advance(2.0)
    assert task.state is State.EXPIRED
    assert rig.submit(created(terms=asked, request_id="q1", spec_hash=b"h")) == [task.task_id]


def test_a_delay_that_ends_behind_the_deadline_is_refused_by_its_own_name() -> None:
    rig = Rig()
    terms = Terms(deadline_ms=START.wall_ms + 1_000, delay_ms=1_000)

    with pytest.raises(InvalidArgument) as refused:
        rig.submit(created(terms=terms))

    assert refused.value.violations[0].field == "tasks[0].delay"


@pytest.mark.parametrize("early_ms", [0, 1])
def test_a_task_that_could_only_expire_is_refused_by_name(early_ms: int) -> None:
    rig = Rig()
    later_ms = START.wall_ms + 5_000
    terms = Terms(not_before_ms=later_ms, deadline_ms=later_ms - early_ms)

    with pytest.raises(InvalidArgument) as refused:
        rig.submit(created(), created(terms=terms))

    assert refused.value.reason == "INVALID_FIELD"
    assert refused.value.violations[0].field == "tasks[1].not_before"
    assert not rig.book.tasks


def test_a_request_id_of_another_task_is_refused_with_its_index() -> None:
    rig = Rig()
    rig.submit(created(request_id="q1", spec_hash=b"h"))

    with pytest.raises(AlreadyExists) as refused:
        rig.submit(created(), created(request_id="q1", spec_hash=b"other"))

    assert refused.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert refused.value.metadata["index"] == "1"
    assert len(rig.book.tasks) == 1


def test_the_same_request_twice_in_a_batch_is_one_task() -> None:
    rig = Rig()
    draft = created(request_id="q1", spec_hash=b"h")

    one, two = rig.submit(draft, draft)

    assert one == two
    assert len(rig.book.tasks) == 1


def test_one_request_id_for_two_tasks_of_a_batch_is_refused() -> None:
    rig = Rig()

    with pytest.raises(AlreadyExists):
        rig.submit(
            created(request_id="q1", spec_hash=b"h"), created(request_id="q1", spec_hash=b"g")
        )

    assert not rig.book.tasks


def test_request_ids_of_other_callers_are_independent() -> None:
    rig = Rig()
    ids = rig.submit(
        created(request_id="q1", spec_hash=b"h", principal="me"),
    ) + rig.submit(created(request_id="q1", spec_hash=b"g", principal="you"))

    assert len(set(ids)) == 2


def test_a_full_backlog_refuses_the_whole_batch_and_says_when_to_come_back() -> None:
    rig = Rig(Limits(open_tasks_max=2))
    rig.submit(created())

    with pytest.raises(ResourceExhausted) as refused:
        rig.submit(created(), created())

    assert refused.value.reason == "BACKLOG_FULL"
    assert refused.value.retry_after_s
    assert len(rig.book.tasks) == 1
    rig.submit(created())


def test_the_backlog_is_bounded_in_bytes_too() -> None:
    rig = Rig(Limits(open_bytes_max=1_000))
    task = rig.submit_one(payload=b"p" * 800)

    with pytest.raises(ResourceExhausted):
        rig.submit(created(payload=b"p" * 800))

    rig.core.control.cancel(task, "", rig.now)
    assert rig.book.open_bytes == 0
    rig.submit(created(payload=b"p" * 800))


def test_repeats_pass_a_full_backlog() -> None:
    rig = Rig(Limits(open_tasks_max=1))
    draft = created(request_id="q1", spec_hash=b"h")

    assert rig.submit(draft) == rig.submit(draft)


def test_a_deadline_that_has_passed_is_refused() -> None:
    rig = Rig()

    with pytest.raises(InvalidArgument) as refused:
        rig.submit(created(), created(terms=Terms(deadline_ms=START.wall_ms)))

    assert refused.value.violations[0].field == "tasks[1].deadline"
    assert not rig.book.tasks


def test_an_unknown_dependency_is_refused() -> None:
    with pytest.raises(NotFound) as refused:
        Rig().submit(created(depends_on=["nowhere"]))

    assert refused.value.reason == "DEPENDENCY_NOT_FOUND"


def test_fail_fast_wants_a_connected_agent() -> None:
    rig = Rig()

    with pytest.raises(FailedPrecondition) as refused:
        rig.submit(created("gpu"), fail_fast=True)

    assert refused.value.reason == "UNSCHEDULABLE"
    rig.credit("gpu")
    assert rig.submit(created("gpu"), fail_fast=True)


def test_a_task_waits_for_all_it_depends_on() -> None:
    rig = Rig()
    one, two = rig.running(), rig.running()
    waiting = rig.submit_one(depends_on=[one.task_id, two.task_id])

    rig.complete(rig.lease(one))
    assert waiting.state is State.CREATED
    rig.complete(rig.lease(two))
    assert rig.kinds(waiting) == [Kind.CREATED, Kind.QUEUED, Kind.ASSIGNED]


def test_a_task_that_depends_on_completed_ones_waits_for_nothing() -> None:
    rig = Rig()
    one = rig.running()
    rig.complete(rig.lease(one))

    assert rig.kinds(rig.submit_one(depends_on=[one.task_id]))[:2] == [Kind.CREATED, Kind.QUEUED]


@pytest.mark.parametrize(
    ("skip", "kind", "reason"),
    [
        (False, Kind.FAILED, "DEPENDENCY_FAILED"),
        (True, Kind.CANCELED, "DEPENDENCY_SKIPPED"),
    ],
)
def test_a_failed_dependency_ends_all_that_wait_behind_it(
    skip: bool, kind: Kind, reason: str
) -> None:
    rig = Rig()
    terms = Terms(skip_on_failed_dependency=skip)
    root = rig.running()
    child = rig.submit_one(depends_on=[root.task_id], terms=terms)
    grandchild = rig.submit_one(depends_on=[child.task_id], terms=terms)

    rig.fail(rig.lease(root), retryable=False)

    for task in (child, grandchild):
        assert rig.kinds(task) == [Kind.CREATED, kind]
        assert task.failure is not None and task.failure.reason == reason
    # Tasks that come later fare the same.
    late = rig.submit_one(depends_on=[root.task_id], terms=terms)
    assert rig.kinds(late) == [Kind.CREATED, kind]
    event = rig.events[-1]
    assert isinstance(event.detail, Failed) and event.detail.total_us >= 0


def test_a_delayed_dependent_waits_for_its_time_too() -> None:
    rig = Rig()
    root = rig.running()
    terms = Terms(not_before_ms=START.wall_ms + 5_000)
    waiting = rig.submit_one(depends_on=[root.task_id], terms=terms)
    rig.complete(rig.lease(root))

    rig.advance(4.0)
    assert waiting.state is State.CREATED
    rig.advance(1.5)
    assert waiting.state is not State.CREATED


def test_a_dependent_whose_time_has_come_waits_for_the_others() -> None:
    rig = Rig()
    root = rig.running()
    terms = Terms(not_before_ms=START.wall_ms + 5_000)
    waiting = rig.submit_one(depends_on=[root.task_id], terms=terms)

    rig.advance(6.0)
    assert waiting.state is State.CREATED
    rig.complete(rig.lease(root))
    assert waiting.state is not State.CREATED
