from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from services.routing.core.score import (
    DRAWS,
    FEW_LEN,
    FORMULA,
    LEARNED,
    Candidates,
    Draw,
    Lottery,
    Scorer,
)
from tests.routing.floor import Floor, raw_model


def lottery(seed: int = 1) -> Lottery:
    return Lottery(np.random.default_rng(seed))


def test_candidates_follow_the_agents_as_tasks_are_given_out() -> None:
    floor = Floor()
    for number in range(5):
        floor.agent(f"a{number}", slots=2)
    demand = floor.board.demands.of(["echo"], [])
    floor.router.learn(raw_model([f"a{n}" for n in range(5)], ["echo"]), floor.time)
    fleet, model = floor.board.fleet, floor.board.model
    kept = Candidates(fleet, demand, "echo", model)
    kept.advantage()

    for number in range(9):
        floor.granted(f"t{number}")
        fresh = Candidates(fleet, demand, "echo", model)

        assert kept.advantage() == fresh.advantage()
        for scorer in (FORMULA, LEARNED):
            totals = scorer.totals(kept, 2.0)
            assert totals.tolist() == scorer.totals(fresh, 2.0).tolist()
            best = kept.best(scorer, 2.0)
            assert best.session is fresh.best(scorer, 2.0).session
            assert best.score == totals.max() > -np.inf


def test_the_best_is_looked_for_once_until_it_is_given_a_task() -> None:
    floor = Floor()
    for number in range(5):
        floor.agent(f"a{number}")
    demand = floor.board.demands.of(["echo"], [])
    candidates = Candidates(floor.board.fleet, demand, "echo", None)
    first = candidates.best(FORMULA)

    while first.session.load == 0:
        assert candidates.best(FORMULA) is first
        floor.granted(f"t{floor.board.fleet.busy_slots}")

    assert candidates.best(FORMULA) is not first


def test_a_larger_task_takes_longer_in_proportion() -> None:
    floor = Floor()
    floor.agent("a1")
    floor.router.learn(raw_model(["a1"], ["echo"], success=1.0, service_ms=50), floor.time)
    demand = floor.board.demands.of(["echo"], [])
    candidates = Candidates(floor.board.fleet, demand, "echo", floor.board.model)
    large = floor.grant("large", size=4.0)

    assert LEARNED.score(candidates, large, -1).tolist() == [-200.0]
    assert FORMULA.score(candidates, large, -1).tolist() == [125.0]


@pytest.mark.parametrize("scorer", [FORMULA, LEARNED])
@pytest.mark.parametrize("count", [FEW_LEN, FEW_LEN + 1])
def test_the_best_of_few_are_found_as_those_of_many_are(scorer: Scorer, count: int) -> None:
    floor = Floor()
    names = [f"a{number}" for number in range(count)]
    for number, name in enumerate(names):
        floor.agent(name, slots=2 + number % 3, proficiency=1 - number / 100)
    service_ms = [[10.0 + 7 * number % 30] for number in range(count)]
    success = [[0.9 - number / 50] for number in range(count)]
    raw = raw_model(names, ["echo"], service_ms=service_ms, success=success)
    floor.router.learn(raw, floor.time)
    demand = floor.board.demands.of(["echo"], [])

    for number in range(2 * count - 1):
        candidates = Candidates(floor.board.fleet, demand, "echo", floor.board.model)
        totals = scorer.totals(candidates, 2.0)
        best = sorted(totals[np.isfinite(totals)].tolist(), reverse=True)[:8]
        places, scores = candidates.ranked(scorer, 2.0, min(8, candidates.free_count()))
        assert scores == best
        assert totals.take(places).tolist() == best
        first = candidates.best(scorer, 2.0)
        assert (first.score, first.free_slots) == (best[0], first.session.counted_free)
        floor.granted(f"t{number}")


def test_the_best_are_equally_likely() -> None:
    totals = np.array([5.0, 9.0, 9.0, -np.inf, 9.0])
    draws = lottery()
    counts: Counter[int] = Counter()
    for _ in range(3_000):
        draw = draws.among_best(totals)
        counts[draw.place] += 1
        assert draw.probability == pytest.approx(1 / 3)

    assert set(counts) == {1, 2, 4}
    assert min(counts.values()) > 850


def sampled(
    draws: Lottery, scores: list[float], spread_ms: float, exploration: float = 0.0
) -> Draw:
    places = list(range(len(scores)))
    spread = np.full(len(scores), spread_ms)
    return draws.by_sampling(places, scores, spread, lambda: places, len(places), exploration)


def test_sampling_chooses_by_chance_what_cannot_be_told_apart() -> None:
    draws = lottery()
    drawn = [sampled(draws, [-100.0, -101.0, -900.0], 50.0) for _ in range(2_000)]
    counts = Counter(draw.place for draw in drawn)

    assert counts[2] == 0
    assert 0.4 < counts[0] / 2_000 < 0.65
    assert all(draw.probability >= 1 / DRAWS for draw in drawn)


def test_recorded_probabilities_weigh_the_choices_rightly() -> None:
    # Inverse propensities estimate any mean without bias when the probabilities are right.
    value = np.array([1.0, 5.0, 20.0])
    draws = lottery()
    estimates = []
    for _ in range(8_000):
        draw = sampled(draws, [-100.0, -104.0, -110.0], 40.0, exploration=0.1)
        estimates.append(value[draw.place] / 3 / draw.probability)

    assert np.mean(estimates) == pytest.approx(value.mean(), rel=0.1)


def test_a_lonely_candidate_is_certain() -> None:
    draw = sampled(lottery(), [-7.0], 0.0, exploration=0.2)

    assert (draw.place, draw.probability, draw.explored) == (0, 1.0, False)
