from __future__ import annotations

from services.edge.core.speakers import Speaker, Speakers


def test_an_agent_is_spoken_for_by_the_connection_that_said_hello_last() -> None:
    speakers = Speakers(10)
    assert speakers.bind("a", Speaker(1, "i-1", "r")) is None

    before = speakers.bind("a", Speaker(2, "i-2", "r"))

    assert before == Speaker(1, "i-1", "r")
    assert speakers.speaks(2, "a")
    assert not speakers.speaks(1, "a")
    assert speakers.through("r") == {2: ["a"]}


def test_a_connection_that_has_lost_an_agent_does_not_take_it_along() -> None:
    speakers = Speakers(10)
    speakers.bind("a", Speaker(1, "i-1", "r"))
    speakers.bind("b", Speaker(1, "i-1", "r"))
    speakers.bind("a", Speaker(2, "i-1", "r"))

    assert speakers.drop(1) == {"r": ["b"]}
    assert speakers.of("a") == Speaker(2, "i-1", "r")
    assert len(speakers) == 1


def test_an_agent_that_left_is_spoken_for_by_nobody() -> None:
    speakers = Speakers(1)
    speakers.bind("a", Speaker(1, "i-1", "r"))
    assert speakers.full

    speakers.release("a")
    speakers.release("a")

    assert speakers.of("a") is None
    assert not speakers.full
    assert speakers.through("r") == {}
