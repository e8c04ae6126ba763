from __future__ import annotations

import pytest

from services.kernel.errors import InvalidArgument
from services.task_scheduler.core import catalog
from services.task_scheduler.core.catalog import Filter
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Lease
from tests.task_scheduler.rig import START, Rig, created


def ids(page: catalog.Page) -> list[str]:
    return [task.task_id for task in page.tasks]


def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat() -> None:
    rig = Rig()
    made = rig.submit(*[created() for _ in range(7)])
    seen: list[str] = []
    before = ""
    for _ in range(4):
        page = catalog.page(rig.book, Filter(), before, 2)
        seen += ids(page)
        before = page.before

    assert seen == made[::-1]
    assert before == ""


def test_tasks_that_come_meanwhile_do_not_move_the_pages() -> None:
    rig = Rig()
    made = rig.submit(*[created() for _ in range(4)])
    first = catalog.page(rig.book, Filter(), "", 2)
    rig.submit(*[created() for _ in range(3)])

    assert ids(catalog.page(rig.book, Filter(), first.before, 9)) == made[1::-1]


def test_every_part_of_a_filter_must_match() -> None:
    rig = Rig()
    done = rig.running(tenant="t1")
    rig.complete(rig.lease(done))
    failed = rig.running("a2", tenant="t2")
    rig.fail(rig.lease(failed), "a2", retryable=False, reason="BAD_INPUT")
    waiting = rig.submit_one("other", tenant="t1")

    def found(**parts) -> list:
        return catalog.page(rig.book, Filter(**parts), "", 10).tasks

    assert found(tenant="t1") == [waiting, done]
    assert found(task_type="other") == [waiting]
    assert found(states=frozenset({8, 9})) == [failed, done]
    assert found(states=frozenset({State.FAILED})) == [failed]
    assert found(agent_id="a2", tenant="t2") == [failed]
    assert found(failure_text="bad_in") == [failed]
    assert found(failure_text="IT BROKE") == [failed]
    assert found(also=lambda task: task is done) == [done]
    assert found(tenant="t1", agent_id="a2") == []


def test_dead_letters_are_paged_without_looking_at_other_tasks() -> None:
    rig = Rig()
    dead = []
    for _ in range(3):
        task = rig.running()
        rig.fail(rig.lease(task), retryable=False)
        dead.append(task.task_id)
    rig.submit(*[created() for _ in range(5)])
    wanted = Filter(states=frozenset({State.FAILED}))

    first = catalog.page(rig.book, wanted, "", 2)
    second = catalog.page(rig.book, wanted, first.before, 2)

    assert ids(first) + ids(second) == dead[::-1]
    assert second.before == ""


def test_dead_letters_that_are_requeued_page_by_page_are_all_seen() -> None:
    rig = Rig()
    dead = [rig.running() for _ in range(5)]
    for task in dead:
        rig.fail(rig.lease(task), retryable=False)
    wanted, before, seen = Filter(states=frozenset({State.FAILED})), "", []
    while True:
        page = catalog.page(rig.book, wanted, before, 2)
        seen += page.tasks
        for task in page.tasks:
            rig.core.control.requeue(task, None, rig.now)
        before = page.before
        if not before:
            break

    assert seen == dead[::-1]


def test_dead_letters_to_be_revived_come_as_they_were_made_and_each_once() -> None:
    rig = Rig()
    tasks = [rig.running() for _ in range(6)]
    for task in tasks[::-1]:
        rig.fail(rig.lease(task), retryable=False)
    wanted, after, seen = Filter(states=frozenset({State.FAILED})), "", []
    while True:
        page = catalog.dead_page(rig.book, wanted, after, 2)
        for task in page.tasks:
            seen.append(task)
            rig.core.control.requeue(task, None, rig.now)
            rig.take()
            rig.start(task)
            rig.fail(rig.lease(task), retryable=False)
        after = page.before
        if not after:
            break

    assert seen == tasks


def test_a_place_among_dead_letters_that_an_earlier_version_named_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        catalog.page(Rig().book, Filter(states=frozenset({State.FAILED})), "00-0-0", 2)

    assert refused.value.reason == "PAGE_TOKEN_INVALID"


def test_tasks_that_leave_memory_meanwhile_do_not_end_the_pages() -> None:
    rig = Rig(Limits(ended_len_max=0))
    made = rig.submit(*[created() for _ in range(6)])
    first = catalog.page(rig.book, Filter(), "", 2)
    for task in first.tasks:
        rig.core.control.cancel(task, "", rig.now)
    rig.advance(0.5)
    assert not set(made[4:]) & set(rig.book.tasks)

    assert ids(catalog.page(rig.book, Filter(), first.before, 9)) == made[3::-1]


def test_a_rare_match_is_found_over_several_pages(monkeypatch) -> None:
    monkeypatch.setattr(catalog, "SCANNED_LEN_MAX", 10)
    rig = Rig()
    rare = rig.submit_one("rare")
    rig.submit(*[created() for _ in range(25)])
    wanted = Filter(task_type="rare")

    first = catalog.page(rig.book, wanted, "", 5)

    assert (first.tasks, bool(first.before)) == ([], True)
    second = catalog.page(rig.book, wanted, first.before, 5)
    assert catalog.page(rig.book, wanted, second.before, 5).tasks == [rare]


def test_it_says_what_each_task_waits_for() -> None:
    rig = Rig()
    queued = rig.submit_one("gpu")
    delayed = rig.submit_one(terms=Terms(not_before_ms=START.wall_ms + 5_000))
    blocked = rig.submit_one(depends_on=[queued.task_id])
    running = rig.running()
    done = rig.running()
    rig.complete(rig.lease(done))

    assert catalog.waiting_for(rig.book, queued) == "No connected agent has all of: gpu."
    assert catalog.unschedulable(queued)
    assert "not_before" in catalog.waiting_for(rig.book, delayed)
    assert "1 of the tasks" in catalog.waiting_for(rig.book, blocked)
    assert "works on it" in catalog.waiting_for(rig.book, running)
    assert catalog.waiting_for(rig.book, done) == ""
    rig.credit("gpu", total=0, class_id=7)
    assert catalog.waiting_for(rig.book, queued) == "It waits for a free agent."
    assert catalog.unschedulable(queued) == ""


def test_it_says_which_versions_there_are_of_what_a_task_waits_for() -> None:
    rig = Rig()
    queued = rig.submit_one(needs=["draw@3", "read"])
    rig.credit("draw", "draw@1.9", "draw@2", "read", total=0, class_id=7)
    rig.credit("draw", "draw@2.1", "read", total=0, class_id=8)

    told = "No connected agent has all of: draw@3 (there is 2.1, 2, 1.9), read."
    assert catalog.waiting_for(rig.book, queued) == told
    rig.credit("draw", "draw@3.0", "read", total=0, class_id=9)
    assert catalog.waiting_for(rig.book, queued) == "It waits for a free agent."


def test_counts_show_states_as_clients_see_them() -> None:
    rig = Rig()
    first = rig.submit_one()
    second = rig.submit_one()
    rig.submit(
        created(terms=Terms(not_before_ms=START.wall_ms + 5_000)),
        created(depends_on=[first.task_id, second.task_id]),
    )

    assert catalog.counts(rig.book) == [(1, 1), (2, 1), (3, 2)]


def test_depths_tell_how_much_waits_and_for_how_long() -> None:
    rig = Rig()
    rig.submit(created(terms=Terms(priority=9)), created(), created("other"))
    rig.advance(2.0)
    rig.submit(created())

    depths = catalog.priorities(rig.book, rig.now.mono_s)
    assert [(one.priority, one.depth, one.oldest_age_s) for one in depths] == [
        (9, 1, 2.0),
        (5, 3, 2.0),
    ]
    rig.core.dispatch.credit("r1", 1, ["other"], 0, 1)
    assert catalog.requirements(rig.book, 10) == [
        (("work",), 3, False, 0),
        (("other",), 1, True, 0),
    ]
    assert len(catalog.requirements(rig.book, 1)) == 1


def test_what_a_router_has_and_no_agent_has_begun_is_told_beside_what_waits() -> None:
    rig = Rig()
    rig.credit("work", total=3)
    rig.submit(*[created() for _ in range(5)])
    grants = rig.grants()
    held = Lease(grants[0].task.task_id, grants[0].lease_epoch)

    assert [(need.depth, need.granted) for need in catalog.requirements(rig.book, 10)] == [(2, 3)]

    rig.core.outcomes.started("r1", held, "a1", b"", rig.now)
    assert [(need.depth, need.granted) for need in catalog.requirements(rig.book, 10)] == [(2, 2)]
