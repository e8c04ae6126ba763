from __future__ import annotations

from itertools import count

import pytest

from services.ml_router.core import learner as module
from services.ml_router.core.learner import Learner, Outcome
from tests.ml_router.worlds import feed, model_of, outcomes, service_ms, success


def test_an_event_is_taken_in_once() -> None:
    learner = Learner()

    assert learner.advance(5)
    assert not learner.advance(5)
    assert not learner.advance(4)
    assert learner.advance(6)


def test_an_agent_that_turns_bad_is_known_within_some_thirty_outcomes() -> None:
    learner = Learner()
    for number in range(10):
        feed(learner, *outcomes(f"good-{number}", 0.95, 200, seed=number))
    feed(learner, *outcomes("turning", 0.95, 500))
    before = success(model_of(learner), "turning")
    feed(learner, *outcomes("turning", 0.0, 30))

    after = success(model_of(learner), "turning")
    others = [success(model_of(learner), f"good-{number}") for number in range(10)]
    assert before > 0.92
    assert after < 0.85 < 0.9 < min(others)


def test_old_outcomes_fade_by_half_after_140_of_the_same_agent() -> None:
    learner = Learner()
    feed(learner, Outcome("words", "a", True, 10.0))
    feed(learner, *(Outcome("words", "a", False, None) for _ in range(140)))

    assert learner.sums.cells["successes"][0] == pytest.approx(0.5)


def test_outcomes_of_others_do_not_fade_an_agents_own() -> None:
    learner = Learner()
    feed(learner, Outcome("words", "a", True, 10.0))
    feed(learner, *(Outcome("words", "b", False, None) for _ in range(140)))

    assert learner.sums.cells["successes"][0] == 1.0


def test_service_times_are_per_unit_of_size() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 1.0, 50, run_ms=400.0, size=4.0))

    assert service_ms(model_of(learner), "a") == pytest.approx(100.0, rel=0.02)


def test_how_long_failures_took_says_nothing_of_the_service_time() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 1.0, 50, run_ms=100.0))
    feed(learner, *(Outcome("words", "a", False, 1.0) for _ in range(50)))

    assert service_ms(model_of(learner), "a") == pytest.approx(100.0, rel=0.05)


def test_one_task_that_hung_for_an_hour_does_not_outweigh_the_rest() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 1.0, 100, run_ms=100.0))
    feed(learner, Outcome("words", "a", True, 3_600_000.0))

    assert service_ms(model_of(learner), "a") < 200.0


def test_a_type_that_takes_no_time_at_all_is_no_fault() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 1.0, 30, run_ms=0.0))

    assert 0.0 <= service_ms(model_of(learner), "a") < 50.0


def test_times_are_learned_after_a_first_few_that_took_none() -> None:
    learner = Learner()
    feed(learner, *outcomes("a", 1.0, 20, run_ms=0.0))
    feed(learner, *outcomes("a", 1.0, 500, run_ms=300.0))

    assert service_ms(model_of(learner), "a") == pytest.approx(300.0, rel=0.1)


def test_sizes_are_remembered_until_the_task_ends() -> None:
    learner = Learner()
    learner.open("t-1", 7.0)

    assert learner.size("t-1") == 7.0
    learner.close("t-1")
    assert learner.size("t-1") == 1.0


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_sizes_that_are_none_count_as_one(size: float) -> None:
    learner = Learner()
    learner.open("t-1", size)

    assert learner.size("t-1") == 1.0


def test_open_tasks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_tasks_len_max", 3)
    learner = Learner()
    for number in range(5):
        learner.open(f"t-{number}", 2.0 + number)

    assert list(learner.sums.sizes) == ["t-2", "t-3", "t-4"]


def test_new_agents_take_the_place_of_the_one_that_was_quiet_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "agents_len_max", 3)
    learner = Learner()
    for agent_id in ("a", "b", "c", "a", "d"):
        feed(learner, *outcomes(agent_id, 0.0, 20))

    model = model_of(learner)
    assert set(model.agent_ids) == {"a", "c", "d"}
    # The one that came new does not inherit from the one whose place it took.
    assert float(model.evidence[model.rows["d"], 0]) == pytest.approx(19.1, abs=0.1)


def test_types_beyond_the_limit_count_for_the_fleet_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "task_types_len_max", 2)
    learner = Learner()
    for task_type in ("a", "b", "c"):
        feed(learner, Outcome(task_type, "x", False, None))

    assert learner.sums.task_types == ["a", "b"]
    assert learner.sums.outcome_count == 3
    assert learner.sums.fleet[1] == pytest.approx(3.0, abs=0.01)


def test_more_types_than_columns_keep_every_agents_cells_apart() -> None:
    learner = Learner()
    numbers = count()
    for task_type in range(40):
        for agent in range(3):
            run_ms = 1_000.0 + next(numbers)
            feed(learner, Outcome(f"type-{task_type}", f"agent-{agent}", True, run_ms))

    sums = learner.sums
    for task_type in range(40):
        for agent in range(3):
            cell = agent * sums.columns + task_type
            assert sums.cells["time_ms"][cell] == 1_000.0 + task_type * 3 + agent
