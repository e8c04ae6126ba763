from __future__ import annotations

from services.edge.core.speakers import Lane, Speaker, Speakers

MAIN, BESIDE = Lane("r"), Lane("r", 1)
OLDER, NEWER = Speaker(1, "i-1", MAIN), Speaker(2, "i-2", BESIDE)


def test_two_instances_of_an_agent_are_told_apart_by_their_lanes_and_connections() -> None:
    speakers = Speakers(10)

    speakers.bind("a", OLDER)
    speakers.bind("a", NEWER)

    assert speakers.of("a") == (OLDER, NEWER)
    assert (speakers.at(MAIN, "a"), speakers.at(BESIDE, "a")) == (OLDER, NEWER)
    assert (speakers.by(1, "a"), speakers.by(2, "a"), speakers.by(3, "a")) == (OLDER, NEWER, None)
    assert (speakers.through(MAIN), speakers.through(BESIDE)) == ({1: ["a"]}, {2: ["a"]})
    assert len(speakers) == 1


def test_when_one_of_two_instances_ends_the_other_stays() -> None:
    speakers = Speakers(10)
    speakers.bind("a", OLDER)
    speakers.bind("a", NEWER)

    speakers.release("a", OLDER)
    speakers.release("a", OLDER)

    assert speakers.of("a") == (NEWER,)
    assert speakers.drop(1) == {}


def test_a_connection_that_is_gone_takes_only_its_own_instances_along() -> None:
    speakers = Speakers(10)
    speakers.bind("a", OLDER)
    speakers.bind("b", OLDER)
    speakers.bind("a", NEWER)

    assert speakers.drop(1) == {MAIN: ["a", "b"]}
    assert speakers.of("a") == (NEWER,)
    assert len(speakers) == 1


def test_an_agent_that_left_is_spoken_for_by_nobody() -> None:
    speakers = Speakers(1)
    speakers.bind("a", OLDER)
    assert speakers.full

    speakers.release("a", OLDER)

    assert speakers.of("a") == ()
    assert not speakers.full
    assert speakers.through(MAIN) == {}
