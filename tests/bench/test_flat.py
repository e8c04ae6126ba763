"""What may not grow, told by the last slice beside the first."""

from __future__ import annotations

import pytest

from tests.bench import flat


def one(rate: float, memory: float, read: float) -> dict[str, float]:
    return {
        "tasks_per_s": rate,
        "us_per_task": 270.0,
        "task_scheduler_mb": memory,
        "analytics_mb": 4_000.0,
        "read_us_per_event": read,
    }


@pytest.mark.parametrize(
    ("last", "missed"),
    [
        (one(950, 210, 11), []),
        (one(949, 200, 10), ["flat: throughput"]),
        (one(1_000, 211, 10), ["flat: memory of the process that grows most"]),
        (one(1_000, 200, 11.2), ["flat: time to read an event of the log"]),
    ],
)
def test_growth_is_a_missed_goal(last: dict[str, float], missed: list[str]) -> None:
    # Memory grows until its bounds are reached, half way; what comes then must not add up.
    slices = [one(1_000, 100, 10), one(1_000, 200, 10), last]

    rows = flat.goals(slices, 1_000)

    assert [row.what for row in rows if row.met is False] == missed
