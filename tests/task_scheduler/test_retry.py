from __future__ import annotations

import random

import pytest

from services.task_scheduler.core.retry import RetryPolicy, backoff_ms


@pytest.mark.parametrize(
    ("failures", "expected"),
    [(1, 200), (2, 400), (3, 800), (8, 25_600), (9, 30_000), (500, 30_000)],
)
def test_without_jitter_the_wait_doubles_up_to_its_longest(failures: int, expected: int) -> None:
    assert backoff_ms(RetryPolicy(jitter=0.0), failures, lambda: 0.5) == expected


def test_full_jitter_draws_from_the_whole_wait() -> None:
    policy = RetryPolicy(initial_backoff_ms=1_000)

    assert backoff_ms(policy, 1, lambda: 0.0) == 0
    assert backoff_ms(policy, 1, lambda: 0.25) == 250


def test_half_jitter_keeps_half_of_the_wait() -> None:
    policy = RetryPolicy(initial_backoff_ms=1_000, jitter=0.5)

    assert backoff_ms(policy, 1, lambda: 0.0) == 500
    assert backoff_ms(policy, 1, lambda: 1.0) == 1_000


def test_the_same_seed_waits_the_same() -> None:
    waits = [
        [backoff_ms(RetryPolicy(), n, random.Random(7).random) for n in range(1, 6)]
        for _ in range(2)
    ]

    assert waits[0] == waits[1]
