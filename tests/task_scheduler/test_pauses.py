from __future__ import annotations

import pytest

from services.kernel.errors import NotFound
from services.task_scheduler.core import catalog
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.pauses import Pause, Pauses, Scope
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import SHOWN_DELAYED, Task
from tests.task_scheduler.rig import Rig, created, facts
from tests.task_scheduler.test_snapshot import packed, restored


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        (Scope("", "work"), {("red", "work"), ("blue", "work")}),
        (Scope("red", ""), {("red", "work"), ("red", "other")}),
        (Scope("red", "work"), {("red", "work")}),
    ],
)
def test_a_pause_holds_what_it_names(scope: Scope, held: set[tuple[str, str]]) -> None:
    pauses = Pauses()
    pauses.add(Pause(scope, "because", 1))
    pairs = [(tenant, kind) for tenant in ("red", "blue") for kind in ("work", "other")]

    assert {pair for pair in pairs if pauses.hold(*pair)} == held
    pauses.remove(scope)
    assert not any(pauses.hold(*pair) for pair in pairs)


def test_a_paused_type_is_not_granted_and_keeps_its_place() -> None:
    rig = Rig()
    first = rig.submit_one()
    rig.core.control.pause_queue("", "work", "maintenance", rig.now)
    second = rig.submit_one()
    other = rig.submit_one("other", needs=("work",))
    rig.credit("work")

    assert [grant.task for grant in rig.grants()] == [other]
    rig.core.control.resume_queue("", "work", rig.now)
    assert [grant.task for grant in rig.grants()] == [first, second]


def test_a_paused_tenant_does_not_hold_up_others() -> None:
    rig = Rig()
    rig.core.control.pause_queue("red", "", "", rig.now)
    held, free = rig.submit(created(tenant="red"), created(tenant="blue"))
    rig.credit("work")

    assert [grant.task.task_id for grant in rig.grants()] == [free]
    assert rig.task(held).state is State.QUEUED


def test_what_runs_goes_on() -> None:
    rig = Rig()
    task = rig.running()
    rig.core.control.pause_queue("", "work", "", rig.now)
    rig.complete(rig.lease(task))

    assert task.state is State.COMPLETED


def test_overlapping_pauses_end_one_by_one() -> None:
    rig = Rig()
    control = rig.core.control
    control.pause_queue("", "work", "", rig.now)
    control.pause_queue("default", "", "", rig.now)
    rig.submit_one()
    rig.credit("work")

    control.resume_queue("", "work", rig.now)
    assert rig.grants() == []
    control.resume_queue("default", "", rig.now)
    assert len(rig.grants()) == 1


def test_a_pause_holds_after_a_restart() -> None:
    rig = Rig()
    rig.submit_one()
    rig.core.control.pause_queue("", "work", "why", rig.now)
    rig.take()
    again = rig.restarted()

    assert facts(again.core) == facts(rig.core)
    again.core.start(again.now)
    again.core.dispatch.open("r1", [], again.now)
    again.credit("work")
    assert again.grants() == []


@pytest.mark.parametrize("paused_last", [True, False])
def test_after_a_replay_the_last_word_counts(paused_last: bool) -> None:
    rig = Rig()
    rig.submit_one(terms=Terms(concurrency_keys=("own",)))
    rig.core.control.pause_queue("", "work", "", rig.now)
    rig.submit_one()
    rig.core.control.resume_queue("", "work", rig.now)
    if paused_last:
        rig.core.control.pause_queue("default", "", "", rig.now)
    rig.take()

    again = rig.restarted()
    again.core.start(again.now)
    again.core.dispatch.open("r1", [], again.now)
    again.credit("work")
    assert len(again.grants()) == (0 if paused_last else 2)


@pytest.mark.parametrize(
    ("tenant", "task_type", "count"),
    [("red", "", 3), ("", "rare", 2), ("red", "rare", 2), ("blue", "", 1), ("green", "", 0)],
)
def test_a_pause_looks_at_the_lanes_that_it_names_alone(
    tenant: str, task_type: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    rig.credit("other")
    for owner, kind, key in [
        ("red", "common", "a"),
        ("red", "rare", "b"),
        ("red", "rare", ""),
        ("blue", "common", "c"),
    ]:
        terms = Terms(concurrency_keys=(key,) if key else ())
        rig.submit(created(kind, tenant=owner, needs=("work",), terms=terms))
    looked_at = []
    monkeypatch.setattr(Pauses, "hold", lambda _, *pair: looked_at.append(pair) or False)
    rig.core.control.pause_queue(tenant, task_type, "", rig.now)

    assert len(looked_at) == count


def test_a_replay_looks_at_no_lane_for_each_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    for n in range(20):
        rig.submit_one(terms=Terms(concurrency_keys=(f"order-{n}",)))
    for _ in range(20):
        rig.core.control.pause_queue("default", "", "", rig.now)
        rig.core.control.resume_queue("default", "", rig.now)
    rig.take()
    looked_at, hold = [], Pauses.hold
    monkeypatch.setattr(
        Pauses, "hold", lambda self, *pair: looked_at.append(pair) or hold(self, *pair)
    )
    again = rig.restarted()
    again.core.start(again.now)
    again.core.dispatch.open("r1", [], again.now)
    again.credit("work", total=20)

    assert len(again.grants()) == 20
    # Each when it is made, and once when there are agents.
    assert len(looked_at) == 40


def test_a_pause_that_is_not_there_cannot_end() -> None:
    rig = Rig()

    with pytest.raises(NotFound) as refused:
        rig.core.control.resume_queue("", "work", rig.now)
    assert refused.value.reason == "PAUSE_NOT_FOUND"


SLOWLY = RetryPolicy(initial_backoff_ms=60_000, max_backoff_ms=60_000, jitter=0.0)


def shown(rig: Rig, task: Task) -> tuple[int, str]:
    """Return the state of the only task as it is shown and counted, and what it waits for."""
    assert catalog.counts(rig.book) == [(task.shown_state, 1)]
    return task.shown_state, catalog.waiting_for(rig.book, task)


def test_a_paused_task_says_why() -> None:
    rig = Rig()
    task = rig.submit_one()
    rig.core.control.pause(task, "wait for the price list", rig.now)
    rig.take()

    for one in (rig, rig.restarted(), restored(rig, packed(rig))):
        told = shown(one, one.task(task.task_id))
        assert told == (State.PAUSED, "It is paused. wait for the price list")


def test_what_was_paused_while_it_waited_for_its_retry_waits_for_that_again() -> None:
    rig = Rig()
    task = rig.running(terms=Terms(policy=SLOWLY))
    rig.fail(rig.lease(task))
    for _ in range(2):
        rig.core.control.pause(task, "", rig.now)
        assert shown(rig, task)[0] == State.PAUSED
        rig.core.control.resume(task, rig.now)
        rig.take()

        for one in (rig, rig.restarted(), restored(rig, packed(rig))):
            told = shown(one, one.task(task.task_id))
            assert told == (State.RETRY_WAIT, "Its last attempt failed; it waits for the next.")
    rig.advance(120.0, step_s=10.0)
    assert shown(rig, task)[0] in (State.QUEUED, State.ASSIGNED)


def test_what_was_paused_while_it_waited_for_its_time_waits_for_that_again() -> None:
    rig = Rig()
    task = rig.submit_one(terms=Terms(not_before_ms=rig.now.wall_ms + 60_000))
    rig.core.control.pause(task, "", rig.now)
    rig.core.control.resume(task, rig.now)

    assert shown(rig, task) == (SHOWN_DELAYED, "It waits for its not_before time.")
    rig.core.control.cancel(task, "", rig.now)
    assert shown(rig, task)[0] == State.CANCELED
