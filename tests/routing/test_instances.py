"""Several instances of one agent: the newer one stays, on this router and on others."""

from __future__ import annotations

import pytest

from services.kernel.errors import ResourceExhausted
from services.routing.core import effects
from services.routing.core.session import twin_s
from tests.routing.floor import Floor


def test_dup_agent_id_a_newer_instance_supersedes_the_older() -> None:
    floor = Floor()
    floor.agent("a1", slots=2)
    kept, left = floor.running("kept"), floor.running("left")
    floor.attendance.open_stream(2)

    newer = floor.agent("a1", slots=2, stream=2, instance="i2", in_flight=(kept.key,))

    gone = floor.last(effects.SendSuperseded)
    assert (gone.stream, gone.instance_id) == (1, "i2")
    assert kept.session is newer and newer.load == 1
    assert floor.attendance.speaker(1, "a1", floor.time) is None, "the older is not heard"
    assert floor.of(effects.Ended) == []
    floor.sleep(2.0)
    assert [ended.lease for ended in floor.of(effects.Ended)] == [left] and left.lost
    assert floor.board.sessions["a1"] is newer


def test_dup_agent_id_an_older_instance_that_comes_back_is_told_at_once_and_gets_nothing() -> None:
    floor = Floor()
    floor.agent("a1", instance="i1")
    for stream in (2, 3):
        floor.attendance.open_stream(stream)
    newer = floor.agent("a1", stream=2, instance="i2")

    floor.agent("a1", stream=3, instance="i1")

    gone = floor.last(effects.SendSuperseded)
    assert (gone.stream, gone.instance_id) == (3, "i2")
    assert floor.board.sessions["a1"] is newer and newer.stream is not None
    assert floor.attendance.speaker(3, "a1", floor.time) is None, "the older is not heard"
    with pytest.raises(ResourceExhausted):
        for _ in range(16):
            floor.agent("a1", stream=3, instance="i1")


def test_a_newer_instance_is_kept_from_work_as_the_older_was() -> None:
    floor = Floor()
    floor.agent("a1")
    floor.standings.directive(
        "a1", breaker="CLOSED", draining=False, quarantined=True, reason="odd answers"
    )
    floor.attendance.open_stream(2)

    newer = floor.agent("a1", stream=2, instance="i2")

    assert floor.granted("t1").session is None, "before the registry has said anything"
    assert newer.told_reason == "odd answers"


def test_an_older_instance_may_come_back_once_the_newer_one_is_gone() -> None:
    floor = Floor()
    floor.agent("a1", instance="i1")
    for stream in (2, 3):
        floor.attendance.open_stream(stream)
    floor.attendance.goodbye(floor.agent("a1", stream=2, instance="i2"), floor.time)

    again = floor.agent("a1", stream=3, instance="i1")

    assert again.ready


def elsewhere(floor: Floor, newer: str, *older: str) -> None:
    """The registry says that a newer instance of the agent is on another router."""
    floor.attendance.rivals("a1", newer, older, floor.time)
    floor.turn()


def test_dup_agent_id_a_newer_instance_on_another_router_supersedes_the_older_here() -> None:
    floor = Floor()
    older = floor.agent("a1", slots=3, instance="i1")
    begun = floor.running("begun")
    offered = floor.granted("offered")

    elsewhere(floor, "i2", "i0", "i1")

    gone = floor.last(effects.SendSuperseded)
    assert (gone.stream, gone.session, gone.instance_id) == (1, older, "i2")
    assert floor.last(effects.Closed) == effects.Closed("a1", False)
    assert floor.attendance.speaker(1, "a1", floor.time) is None, "the older is not heard"
    assert floor.granted("next").session is None, "the older gets nothing more"
    # The newer one may claim, within the grace, what it says it has.
    assert floor.of(effects.Ended) == []
    floor.sleep(2.0)
    assert [ended.lease for ended in floor.of(effects.Ended)] == [begun] and begun.lost
    assert (offered.key, "AGENT_GONE") in [
        ((back.task_id, back.epoch), back.reason) for back in floor.of(effects.HandedBack)
    ]
    assert "a1" not in floor.board.sessions


def test_who_was_superseded_from_elsewhere_is_turned_away_while_its_leases_wait() -> None:
    floor = Floor()
    floor.agent("a1", instance="i1")
    elsewhere(floor, "i2", "i1")
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, instance="i1")

    gone = floor.last(effects.SendSuperseded)
    assert (gone.stream, gone.instance_id) == (2, "i2")
    floor.attendance.open_stream(3)
    assert floor.agent("a1", stream=3, instance="i3").ready, "a third one is newer than both"


def test_a_router_learns_whom_its_instance_has_followed_on_others() -> None:
    floor = Floor()
    newer = floor.agent("a1", instance="i2")
    elsewhere(floor, "i2", "i1")
    floor.attendance.open_stream(2)

    floor.agent("a1", stream=2, instance="i1")

    assert floor.last(effects.SendSuperseded).stream == 2
    assert floor.board.sessions["a1"] is newer and newer.stream is not None


@pytest.mark.parametrize(
    ("newer", "older"),
    [("i2", ("i0",)), ("i2", ()), ("", ())],
    ids=["others", "nobody", "a-registry-of-before"],
)
def test_an_instance_that_the_registry_does_not_name_stays(
    newer: str, older: tuple[str, ...]
) -> None:
    floor = Floor()
    session = floor.agent("a1", instance="i1")

    elsewhere(floor, newer, *older)

    assert floor.of(effects.SendSuperseded) == []
    assert session.stream is not None


def test_word_of_the_registry_that_is_late_does_not_end_the_last_instance() -> None:
    floor = Floor()
    floor.agent("a1", instance="i2")
    floor.attendance.open_stream(2)
    later = floor.agent("a1", stream=2, instance="i1")

    elsewhere(floor, "i2", "i1")

    assert floor.board.sessions["a1"] is later and later.stream is not None


def test_what_comes_late_about_a_superseded_agent_does_not_touch_who_has_its_place() -> None:
    floor = Floor(ack_s=0.5)
    floor.agent("a1", instance="i1")
    floor.granted("t1")
    elsewhere(floor, "i2", "i1")
    other = floor.agent("a2", "read")

    floor.sleep(1.0)
    floor.standings.directive("a1", breaker="OPEN", draining=True, quarantined=True)

    assert floor.granted("t2", "read").session is other


def test_dup_agent_id_two_processes_that_share_an_instance_id_do_not_both_go_on() -> None:
    floor = Floor()
    floor.agent("a1", instance="i1")
    floor.attendance.open_stream(2)
    later = floor.agent("a1", stream=2, instance="i1")

    def speak() -> list[effects.SendSuperseded]:
        assert floor.attendance.speaker(1, "a1", floor.time) is None
        floor.attendance.unheard(1, "a1", floor.time)
        floor.turn()
        return floor.of(effects.SendSuperseded)

    assert speak() == [], "it may be what one process said before it moved"
    floor.sleep(twin_s)
    [told] = speak()

    assert (told.stream, told.instance_id) == (1, "i1")
    assert later.stream is floor.board.streams[2] and told.session is not later
    assert len(speak()) == 1, "once"


def test_a_process_whose_session_was_taken_and_is_over_is_asked_to_come_back() -> None:
    floor = Floor()
    floor.agent("a1", instance="i1")
    floor.attendance.open_stream(2)
    floor.attendance.goodbye(floor.agent("a1", stream=2, instance="i1"), floor.time)
    floor.sleep(twin_s)

    floor.attendance.unheard(1, "a1", floor.time)
    floor.turn()

    refusal = floor.last(effects.SendRefusal)
    assert (refusal.stream, refusal.reason, refusal.closing) == (1, "HELLO_REQUIRED", True)
    again = floor.agent("a1", stream=1, instance="i1")
    assert again.stream is floor.board.streams[1] and again.ready
