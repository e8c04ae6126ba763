from __future__ import annotations

from services.routing.core.decision import candidates_len_max
from tests.routing.floor import Floor


def test_only_the_best_candidates_are_recorded_and_always_the_chosen_one() -> None:
    floor = Floor()
    for number in range(20):
        floor.agent(f"a{number:02}", slots=4)

    for number in range(40):
        decision = floor.granted(f"t{number}").decision
        assert decision is not None
        columns = (decision.candidates, decision.scores, decision.matches, decision.balances)
        assert [len(column) for column in columns] == [candidates_len_max] * 4
        assert decision.scores == sorted(decision.scores, reverse=True)
        assert decision.agent_id in decision.candidates
        assert decision.eligible_count == 20
