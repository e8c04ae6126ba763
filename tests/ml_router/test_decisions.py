from __future__ import annotations

import pytest

from podium.v1.decision_pb2 import Decision
from services.ml_router.adapters import decisions as module
from services.ml_router.adapters.decisions import DecisionLog


def decision(agent_id: str = "a", *candidates: str) -> Decision:
    names = candidates or ("a", "b")
    return Decision(
        agent_id=agent_id,
        probability=0.5,
        candidate_agent_ids=names,
        capability_matches=[1.0] * len(names),
        load_balances=[0.5] * len(names),
        priority_bonuses=[5.0] * len(names),
    )


def test_decisions_are_joined_with_how_they_went_newest_first() -> None:
    log = DecisionLog()
    log.started("t-1", "words", 2.0, decision("b"))
    log.started("t-2", "tables", 1.0, decision("a"))
    log.ended("t-2", success=False)
    log.ended("t-1", success=True)

    newest, oldest = log.recent(10)
    assert (newest.task_type, newest.size, newest.success) == ("words", 2.0, True)
    assert newest.agent_ids[newest.chosen] == "b"
    assert newest.load_balances == (0.5, 0.5)
    assert (oldest.task_type, oldest.success) == ("tables", False)
    assert log.recent(1) == [newest]


def test_each_attempt_is_a_decision_of_its_own() -> None:
    log = DecisionLog()
    for agent_id, success in (("a", False), ("b", True)):
        log.started("t-1", "words", 1.0, decision(agent_id))
        log.ended("t-1", success)

    assert [(each.chosen, each.success) for each in log.recent(10)] == [(1, True), (0, False)]


def test_an_outcome_counts_once_and_only_with_its_decision() -> None:
    log = DecisionLog()
    log.ended("t-0", success=True)
    log.started("t-1", "words", 1.0, decision())
    log.ended("t-1", success=True)
    log.ended("t-1", success=False)
    log.started("t-2", "words", 1.0, decision())
    log.dropped("t-2")
    log.ended("t-2", success=False)

    assert len(log.recent(10)) == 1


@pytest.mark.parametrize(
    "unusable", [decision("a", "a"), decision("z"), Decision(agent_id="a")], ids=str
)
def test_decisions_that_say_nothing_of_a_choice_are_left_out(unusable: Decision) -> None:
    log = DecisionLog()
    log.started("t-1", "words", 1.0, unusable)
    log.ended("t-1", success=True)

    assert log.recent(10) == []


def test_columns_of_unequal_length_are_left_out() -> None:
    lame = decision()
    lame.load_balances.append(1.0)
    log = DecisionLog()
    log.started("t-1", "words", 1.0, lame)
    log.ended("t-1", success=True)

    assert log.recent(10) == []


def test_what_is_open_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_len_max", 2)
    log = DecisionLog()
    for number in range(3):
        log.started(f"t-{number}", "words", 1.0, decision())
    for number in range(3):
        log.ended(f"t-{number}", success=True)

    assert len(log.recent(10)) == 2
