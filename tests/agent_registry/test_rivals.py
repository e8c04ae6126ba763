from __future__ import annotations

import pytest

from services.agent_registry.core.rivals import Rival, followed, stays, superseded_len_max


@pytest.mark.parametrize(
    ("stayer", "leaver"),
    [
        (Rival("a", 2), Rival("b", 1)),
        (Rival("b", 1), Rival("a", 1)),
        (Rival("a", 1, ("b",)), Rival("b", 2)),
        (Rival("a", 1, ("x", "b")), Rival("b", 9, ("x",))),
        (Rival("a", 3, ("b",)), Rival("b", 2, ("a",))),
    ],
    ids=["later", "alike", "followed", "followed-among-others", "both-followed"],
)
def test_of_two_instances_the_same_one_stays_whoever_looks(stayer: Rival, leaver: Rival) -> None:
    assert stays(stayer, leaver)
    assert not stays(leaver, stayer)


def test_the_last_instances_that_were_followed_are_remembered() -> None:
    superseded: tuple[str, ...] = ()
    for number in range(superseded_len_max + 2):
        superseded = followed(superseded, f"i{number}", f"i{number + 1}")

    assert superseded == tuple(f"i{number}" for number in range(2, superseded_len_max + 2))


def test_whoever_follows_again_is_no_longer_superseded() -> None:
    assert followed(("one", "other"), "two", "one") == ("other", "two")
    assert followed((), "", "one") == ()
