from __future__ import annotations

from services.edge.core.callers import Callers


def test_a_caller_has_so_many_connections_and_others_still_have_theirs() -> None:
    callers = Callers(2)
    callers.enter("a")
    callers.enter("a")

    assert callers.full("a")
    assert not callers.full("b")

    callers.leave("a")
    assert not callers.full("a")


def test_callers_without_connections_are_forgotten() -> None:
    callers = Callers(2)
    callers.enter("a")
    callers.leave("a")

    assert len(callers) == 0
