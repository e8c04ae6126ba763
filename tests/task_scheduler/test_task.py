from __future__ import annotations

from services.task_scheduler.core.event import Progress, Terms
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.task import EXCLUDED_LEN_MAX
from tests.task_scheduler.rig import START, Rig


def test_a_task_holds_its_live_lease_alone() -> None:
    rig = Rig()
    task = rig.granted()

    assert task.holds(task.lease_epoch)
    assert not task.holds(task.lease_epoch + 1)
    assert not task.holds(0)


def test_no_task_holds_lease_zero() -> None:
    assert not Rig().submit_one().holds(0)


def test_agents_to_avoid_are_bounded_and_the_latest_stay() -> None:
    task = Rig().submit_one()
    for n in range(EXCLUDED_LEN_MAX + 3):
        task.excluded = task.exclude(f"a{n}")

    assert len(task.excluded) == EXCLUDED_LEN_MAX
    assert task.excluded[-1] == f"a{EXCLUDED_LEN_MAX + 2}"
    assert task.exclude("a5") is task.excluded
    assert task.exclude("") is task.excluded


def test_a_waiting_task_shows_what_it_waits_for() -> None:
    rig = Rig()
    first = rig.submit_one()
    later = Terms(not_before_ms=START.wall_ms + 5_000)
    delayed = rig.submit_one(terms=later)
    blocked = rig.submit_one(depends_on=[first.task_id])

    assert (first.shown_state, delayed.shown_state, blocked.shown_state) == (3, 1, 2)


def test_all_that_is_held_for_a_task_is_counted() -> None:
    rig = Rig()
    task = rig.granted(terms=Terms(policy=RetryPolicy(3, 0)))
    sizes = [task.size_bytes]

    def grown() -> int:
        assert rig.book.open_bytes == task.size_bytes
        sizes.append(task.size_bytes)
        return sizes[-1] - sizes[-2]

    outcomes, lease = rig.core.outcomes, rig.lease(task)
    outcomes.started("r1", lease, "a1", b"d" * 1_000, rig.now)
    assert grown() == 1_000
    outcomes.progressed("r1", lease, "a1", Progress(0.5, "on", b"p", None, b"c" * 10, 1), rig.now)
    assert grown() == len("on") + 10
    outcomes.asked("r1", lease, "a1", b"?" * 2_000, None, rig.now)
    assert grown() == 2_000
    rig.core.control.answer(task, b"!" * 50, rig.now)
    assert grown() == 50 - 2_000
    rig.take()
    rig.start(task)
    rig.fail(rig.lease(task))
    assert task.failure is not None
    # Both the task and its attempt tell of it; and the new attempt has said nothing yet.
    assert grown() == 2 * len(task.failure.reason + task.failure.message) - len("on")
    rig.core.control.cancel(task, "enough", rig.now)
    assert (rig.book.open_bytes, rig.book.ended_bytes) == (0, task.size_bytes)


def test_a_queued_task_is_small() -> None:
    # What a million of them cost is measured by the bench; here: no dict, no list of their own.
    one, two = Rig().submit_one(), Rig().submit_one()

    assert not hasattr(one, "__dict__")
    assert one.attempts == two.attempts == ()
    assert one.excluded is two.excluded
