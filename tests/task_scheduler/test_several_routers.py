"""Several routers in front of one scheduler: whose turn it is, and what is asked back."""

from __future__ import annotations

import pytest

from services.task_scheduler.core.orders import Reclaim
from tests.task_scheduler.rig import Rig, created


def two_routers(**credits: tuple[int, int]) -> Rig:
    """Return a rig whose routers accept so many tasks, of which so many may have to wait."""
    rig = Rig()
    rig.core.dispatch.open("r2", [], rig.now)
    for router, (total, ahead) in credits.items():
        rig.credit(total=total, ahead=ahead, router=router)
    return rig


def test_free_slots_of_all_routers_come_before_any_look_ahead() -> None:
    rig = two_routers(r1=(17, 16), r2=(19, 16))
    rig.submit(*[created() for _ in range(4)])
    assert sorted(rig.granted_to()) == ["r1", "r2", "r2", "r2"]

    rig.submit(*[created() for _ in range(6)])
    assert sorted(rig.granted_to()) == ["r1"] * 3 + ["r2"] * 3, "then look-ahead in turn"


def test_a_busy_router_gets_nothing_while_another_is_free() -> None:
    rig = two_routers(r1=(16, 16), r2=(4 + 16, 16))
    for _ in range(4):
        rig.submit_one()

    assert rig.granted_to() == ["r2"] * 4


def test_a_router_that_does_not_tell_its_look_ahead_is_taken_at_its_word() -> None:
    rig = two_routers(r1=(17, 0), r2=(17, 16))
    rig.submit(*[created() for _ in range(5)])

    assert sorted(rig.granted_to()) == ["r1"] * 4 + ["r2"]


def test_no_more_is_granted_than_there_is_credit() -> None:
    rig = two_routers(r1=(3, 2), r2=(2, 2))
    rig.submit(*[created() for _ in range(9)])

    assert sorted(rig.granted_to()) == ["r1"] * 3 + ["r2"] * 2


def test_what_waits_at_a_busy_router_is_asked_back_for_the_free_slots_of_another() -> None:
    rig = two_routers(r1=(1 + 16, 16), r2=(16, 16))
    rig.submit(*[created() for _ in range(7)])
    rig.take()
    # Of those in its look-ahead r1 has three still; r2 gets two free slots.
    rig.credit(total=17, ahead=16, router="r1")
    rig.credit(total=16 + 5, ahead=16, router="r2")
    rig.orders.clear()

    rig.advance(1.0, step_s=1.0)

    assert rig.orders == [("r1", Reclaim(frozenset({"work"}), 2))]
    task = rig.book.tasks[next(iter(rig.book.tasks))]
    rig.core.outcomes.handed_back("r1", rig.lease(task), "FREE_ELSEWHERE", "", rig.now)
    assert rig.granted_to() == ["r2"]


@pytest.mark.parametrize(
    ("needs", "free"),
    [
        pytest.param("other", 5, id="agents that could not do it"),
        pytest.param("work", 0, id="no free slot"),
    ],
)
def test_nothing_is_asked_back_for(needs: str, free: int) -> None:
    rig = two_routers(r1=(1 + 16, 16))
    rig.submit(*[created() for _ in range(7)])
    rig.credit(needs, total=16 + free, ahead=16, router="r2")
    rig.orders.clear()

    rig.advance(1.0)

    assert rig.said(Reclaim) == []


def test_one_router_alone_is_asked_for_nothing_back() -> None:
    rig = Rig()
    rig.credit(total=17, ahead=16)
    rig.credit("work", "more", total=0, class_id=2)
    rig.submit(*[created() for _ in range(7)])
    rig.credit("work", "more", total=2, class_id=2)

    rig.advance(1.0)

    assert rig.said(Reclaim) == []
