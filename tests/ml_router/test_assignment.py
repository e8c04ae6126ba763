from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ml_router.core.assignment import optimal_assignment


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_no_other_assignment_has_a_greater_sum(tasks: int, more: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(-9, 9, (tasks, tasks + more)).astype(np.float32)

    chosen = optimal_assignment(scores)

    best = max(
        sum(scores[task, agent] for task, agent in enumerate(agents))
        for agents in permutations(range(tasks + more), tasks)
    )
    assert len(set(chosen)) == tasks
    assert sum(scores[task, agent] for task, agent in enumerate(chosen)) == best


def test_the_best_whole_is_not_the_best_for_each() -> None:
    scores = np.array([[10.0, 9.0], [9.0, 1.0]], np.float32)

    assert optimal_assignment(scores) == [1, 0]


def test_agents_are_used_again_only_when_none_is_left() -> None:
    scores = np.random.default_rng(3).normal(size=(7, 3)).astype(np.float32)

    chosen = optimal_assignment(scores)

    assert set(chosen[:3]) == set(chosen[3:6]) == {0, 1, 2}


@pytest.mark.parametrize(("tasks", "agents", "chosen"), [(0, 3, []), (2, 0, [-1, -1])])
def test_nobody_to_assign_or_nothing(tasks: int, agents: int, chosen: list[int]) -> None:
    assert optimal_assignment(np.zeros((tasks, agents), np.float32)) == chosen
