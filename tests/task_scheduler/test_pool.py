from __future__ import annotations

import pytest

from services.task_scheduler.core import pool as module
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.lane import Lane, LaneKey, Requirement
from services.task_scheduler.core.pool import STALE_LEN_MIN, Elders, Line, Pool
from services.task_scheduler.core.shares import WINDOW_S, Shares
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import created


def lane(
    number: int, priority: int, *places: int, tenant: str = "default", shares: Shares | None = None
) -> Lane:
    shares = shares or Shares({})
    share = shares.share(shares.tenant(tenant), priority)
    key = LaneKey(("work",), priority, tenant, "work", (), 0)
    made = Lane(number, key, Requirement(1, ("work",)), share, ())
    for place in places:
        push(made, place)
    return made


def push(made: Lane, place: int) -> None:
    draft = created(terms=Terms(priority=made.key.priority))
    task = Task(f"t{place}", draft, seq=place, wall_ms=0, mono_s=0.0)
    task.queued_seq = place
    made.push(task)


def test_a_lane_that_is_offered_shows_in_the_mask_of_its_priority() -> None:
    pool = Pool(frozenset({"work"}))
    pool.offer(lane(1, 3, 1))
    pool.offer(lane(2, 7, 2))

    assert pool.mask == 1 << 3 | 1 << 7


def test_an_empty_lane_is_not_listed() -> None:
    pool = Pool(frozenset({"work"}))
    pool.offer(lane(1, 3))

    assert (pool.mask, pool.lines) == (0, {})


def test_a_lane_is_listed_again_only_when_its_first_task_comes_earlier() -> None:
    pool = Pool(frozenset({"work"}))
    offered = lane(1, 3, 5)
    for place in (0, 9, 2):
        if place:
            push(offered, place)
        pool.offer(offered)

    line = pool.lines[offered.share]
    assert [entry[1] for entry in sorted(line.heads)] == [2, 5]
    assert [entry[0] for entry in sorted(line.elders.heap)] == [2, 5]
    assert line.lanes[1][1] == line.elders.listed[1][0] == 2
    assert len(pool.turns[3]) == 1


def test_lanes_that_have_emptied_behind_an_old_one_are_forgotten() -> None:
    elders = Elders()
    elders.offer((1, 1, lane(1, 3, 1)))
    for number in range(2, 10 * STALE_LEN_MIN):
        passing = lane(number, 3, number)
        elders.offer((number, number, passing))
        passing.take(passing.head()[2])

    assert len(elders.heap) <= STALE_LEN_MIN + 2
    assert elders.heap[0][:2] == (1, 1)


def test_lanes_that_a_pool_without_free_agents_never_takes_are_forgotten() -> None:
    pool = Pool(frozenset({"work"}))
    shares = Shares({})
    for number in range(1, 10 * STALE_LEN_MIN):
        passing = lane(number, 3, number, shares=shares)
        pool.offer(passing)
        passing.take(passing.head()[2])

    (line,) = pool.lines.values()
    assert len(line.heads) == len(line.lanes) <= STALE_LEN_MIN + 1


def test_tenants_that_a_pool_without_free_agents_never_serves_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IDLE_LEN_MAX", 10)
    pool, shares = Pool(frozenset({"work"})), Shares({})
    stuck = offered(pool, lane(1, 3, 1, tenant="stuck", shares=shares))
    for number in range(2, 10 * STALE_LEN_MIN):
        passing = offered(pool, lane(number, 3, number, tenant=f"t{number}", shares=shares))
        passing.take(passing.head()[2])
        passing.share.waiting = 0

    assert len(pool.turns[3]) <= STALE_LEN_MIN + 3
    assert len(pool.lines) <= STALE_LEN_MIN + 3
    assert stuck.share in pool.lines


def offered(pool: Pool, made: Lane) -> Lane:
    """Lets the tenant of a lane come from a pause."""
    made.share.arrive()
    pool.offer(made, anew=True)
    return made


def lines(*names: str) -> list[Line]:
    shares = Shares({"*": 2.0})
    return [Line(shares.share(shares.tenant(name), 5), 0.0) for name in names]


def test_what_a_tenant_uses_counts_in_every_pool() -> None:
    (line,) = lines("red")
    line.share.settle(line.share.charge("work"), 8.0)

    assert line.turn_s(0.0) == 4.0


def test_what_it_used_elsewhere_holds_a_tenant_back_for_the_window_and_no_longer() -> None:
    (line,) = lines("red")
    line.share.settle(0.0, 10_000.0)
    assert line.turn_s(0.0) == WINDOW_S

    line.share.settle(0.0, 10_000.0)
    assert line.turn_s(WINDOW_S) == WINDOW_S, "however much it is until it is served"

    line.since_s = WINDOW_S
    line.share.settle(0.0, 200.0)
    assert line.turn_s(WINDOW_S) == WINDOW_S + 100.0


def test_a_long_task_holds_a_tenant_back_for_all_that_it_took() -> None:
    (line,) = lines("red")
    share = line.share
    share.tenant.run_s["work"] = 7_200.0
    share.charge("work")

    assert line.turn_s(0.0) == 3_600.0


def test_who_could_not_be_served_may_make_up_for_the_window_and_no_more() -> None:
    (line,) = lines("red")

    assert line.turn_s(5_000.0) == 5_000.0 - WINDOW_S


def test_who_comes_from_a_pause_begins_where_those_are_that_wait() -> None:
    pool, shares = Pool(frozenset({"work"})), Shares({})
    busy = offered(pool, lane(1, 5, 1, tenant="busy", shares=shares))
    busy.share.settle(0.0, 300.0)
    late = offered(pool, lane(2, 5, 2, tenant="late", shares=shares))

    assert pool.lines[late.share].turn_s(pool.clocks_s[5]) == 300.0


def test_a_new_pool_takes_up_how_far_tenants_have_passed() -> None:
    pool = Pool(frozenset({"work"}), [1_000.0] * 10)
    shares = Shares({})
    share = shares.share(shares.tenant("red"), 5)
    share.settle(0.0, 1_100.0)
    other = shares.share(shares.tenant("blue"), 5)

    assert [Line(each, pool.clocks_s[5]).turn_s(1_000.0) for each in (share, other)] == [
        1_100.0,
        1_000.0,
    ]
