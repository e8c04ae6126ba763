from __future__ import annotations

from services.routing.core.credits import look_ahead_len
from tests.routing.floor import Floor


def test_a_class_accepts_its_free_slots_and_a_look_ahead() -> None:
    floor = Floor()

    floor.agent("a1", slots=3)
    floor.agent("a2", slots=2)

    assert floor.credit() == (5 + look_ahead_len, 2)


def test_credit_counts_what_was_granted_and_never_what_waits_twice() -> None:
    floor = Floor()
    floor.agent("a1")

    leases = [floor.granted(f"t{number}") for number in range(1 + look_ahead_len)]
    assert floor.credit() == (1 + look_ahead_len, 1), "all of it is used"
    floor.finish(leases[0])

    assert floor.credit() == (2 + look_ahead_len, 1), "one more, for the slot that was free"


def test_a_class_in_which_nobody_works_accepts_nothing() -> None:
    floor = Floor()
    session = floor.agent("a1", slots=4)
    granted = floor.running("t1")
    assert floor.credit()[0] == 4 + look_ahead_len

    floor.attendance.drain_agent(session)
    floor.turn()

    assert floor.credit() == (1, 1)
    floor.finish(granted)
    assert floor.credit() == (1, 1)


def test_a_class_whose_agents_left_is_told_to_have_none() -> None:
    floor = Floor()
    floor.agent("a1", slots=4)

    floor.attendance.close_stream(1, floor.time)
    floor.sleep(2.0)

    assert floor.credit() == (0, 0)


def test_classes_are_told_apart_by_their_capabilities() -> None:
    floor = Floor()
    floor.agent("reader", "read")
    floor.agent("both", "read", "write", slots=2)

    assert floor.credit("read") == (1 + look_ahead_len, 1)
    assert floor.credit("read", "write") == (2 + look_ahead_len, 1)


def test_a_task_granted_to_one_class_may_run_in_another() -> None:
    floor = Floor()
    floor.agent("reader", "read")
    floor.running("t0", "read")
    floor.agent("both", "read", "write")

    lease = floor.granted("t1", "read", of=("read",))

    assert lease.agent_id == "both"
    assert floor.credit("read")[0] == 2 + look_ahead_len
    assert floor.credit("read", "write")[0] == look_ahead_len


def test_nothing_is_told_while_nobody_listens() -> None:
    floor = Floor(up=False)

    floor.agent("a1")
    assert floor.board.fleet.class_of(["echo"]).announced == (-1, -1)
    floor.orders.welcome((), (), floor.time)
    floor.turn()

    assert floor.credit() == (1 + look_ahead_len, 1)
