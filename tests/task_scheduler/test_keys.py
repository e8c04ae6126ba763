from __future__ import annotations

import pytest

from services.kernel.errors import ResourceExhausted
from services.task_scheduler.core.event import RateLimit, Terms
from services.task_scheduler.core.keys import Keys
from services.task_scheduler.core.lane import SCHEDULE_KEY, LaneKey
from services.task_scheduler.core.limits import Limits, Rate
from services.task_scheduler.core.queue import ReadyQueue
from services.task_scheduler.core.rates import RateName
from tests.task_scheduler.rig import created


def lane(*names: str, limit: int = 0, rates: tuple[RateLimit, ...] = ()) -> LaneKey:
    return LaneKey(("work",), 5, "red", "work", names, limit, rates)


def test_a_lane_has_its_concurrency_keys_and_its_rates_with_their_limits() -> None:
    keys = Keys(Limits(concurrency_limits={"gpu": 4}, shared_concurrency_limits={"all": 9}))
    rate = RateLimit("api", 60, 1_000)

    found = keys.of(lane("gpu", "mine", "all", f"{SCHEDULE_KEY}nightly", limit=2, rates=(rate,)))

    assert [(key.tenant, key.name, limit) for key, limit in found] == [
        ("red", "gpu", 4),
        ("red", "mine", 2),
        ("", "all", 9),
        ("red", "schedule/nightly", 1),
        ("red", "api", 60),
    ]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, {("red", "api", 1_000): 2, ("red", "api", 5_000): 3}),
        ({"rate_limits": {"api": Rate(7, 60_000)}}, {("red", "api", 60_000): 7}),
        ({"shared_rate_limits": {"a*": Rate(7, 60_000)}}, {("", "api", 60_000): 7}),
    ],
)
def test_a_rate_of_the_settings_stands_for_all_that_a_task_says_of_its_key(
    settings: dict[str, dict[str, Rate]], named: dict[RateName, int]
) -> None:
    limits = (RateLimit("api", 2, 1_000), RateLimit("api", 3, 5_000))

    assert Keys(Limits(**settings)).named("red", limits) == named


def test_keys_go_with_their_last_lane() -> None:
    queue = ReadyQueue(Limits())
    terms = Terms(concurrency_keys=("gpu",), rate_limits=(RateLimit("api", 1, 1_000),))
    alike = ("work",), 5, "red", "work", terms.concurrency_keys, 0, terms.rate_limits
    lanes = [queue.enter(alike), queue.enter(alike)]

    queue.leave(lanes[0])
    assert (len(queue.keys.concurrency), len(queue.keys.rates)) == (1, 1)
    queue.leave(lanes[1])
    assert (len(queue.keys.concurrency), len(queue.keys.rates)) == (0, 0)


def test_what_a_batch_brings_is_counted_once_and_together() -> None:
    keys = Keys(Limits(rate_keys_len_max=2))

    def asked(*names: str) -> list:
        return [created(terms=Terms(rate_limits=(RateLimit(n, 1, 1_000),))) for n in names]

    keys.check(asked("a", "a", "b"))
    with pytest.raises(ResourceExhausted) as refused:
        keys.check(asked("a", "b", "c"))
    assert refused.value.metadata == {"rate_keys": "0", "rate_keys_max": "2"}
