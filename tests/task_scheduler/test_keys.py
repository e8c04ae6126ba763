from __future__ import annotations

import pytest

from services.kernel.errors import InvalidArgument, ResourceExhausted
from services.task_scheduler.core.event import Created, RateLimit, Terms
from services.task_scheduler.core.keys import RETRY_AFTER_S, Keys
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


def asked(*names: str, tenant: str = "red") -> list[Created]:
    return [
        created(tenant=tenant, terms=Terms(rate_limits=(RateLimit(name, 1, 1_000),)))
        for name in names
    ]


def used(keys: Keys, *names: str, tenant: str = "red", at_s: float = 0.0) -> None:
    """Let tasks of a tenant start at a time, and end."""
    for name in names:
        key = keys.rates.key((tenant, name, 1_000))
        key.start(at_s, round(at_s * 1_000))
        key.wait()


def test_what_a_batch_brings_is_counted_once_and_together() -> None:
    keys = Keys(Limits(rate_keys_len_max=5))
    used(keys, "a", "b")

    keys.check(asked("a", "c", "c"))
    with pytest.raises(ResourceExhausted) as refused:
        keys.check(asked("c", "d"))
    assert refused.value.metadata == {"tenant": "red", "rate_keys": "2", "rate_keys_max": "3"}


def test_a_tenant_has_half_of_the_rate_keys_that_others_leave() -> None:
    keys = Keys(Limits(rate_keys_len_max=8))
    used(keys, "a", "b", "c", "d")
    with pytest.raises(ResourceExhausted):
        keys.check(asked("e"))

    keys.check(asked("e", "f", tenant="blue"))
    with pytest.raises(ResourceExhausted):
        keys.check(asked("e", "f", "g", tenant="blue"))


def test_shared_rate_keys_count_as_those_of_one_tenant() -> None:
    keys = Keys(Limits(rate_keys_len_max=4, shared_rate_limits={"a*": Rate(1, 1_000)}))
    used(keys, "a1", "a2", tenant="")

    for tenant in ("red", "blue"):
        with pytest.raises(ResourceExhausted) as refused:
            keys.check(asked("a3", tenant=tenant))
        assert "all tenants together" in refused.value.message
        keys.check(asked("b", tenant=tenant))


def test_more_rate_keys_than_a_tenant_may_ever_have_are_refused_for_good() -> None:
    keys = Keys(Limits(rate_keys_len_max=4))
    with pytest.raises(InvalidArgument) as refused:
        keys.check(asked("a", "b", "c"))

    assert refused.value.reason == "BATCH_TOO_LARGE"
    assert refused.value.metadata == {"tenant": "red", "rate_keys_max": "2"}


def test_the_time_to_wait_is_until_there_are_few_enough_rate_keys() -> None:
    keys = Keys(Limits(rate_keys_len_max=8))
    keys.rates.advance(0.0)
    for n, name in enumerate("abcd"):
        used(keys, name, at_s=10.0 * (n + 1))

    def wait_s(*names: str) -> float | None:
        with pytest.raises(ResourceExhausted) as refused:
            keys.check(asked(*names))
        return refused.value.retry_after_s

    assert [wait_s("e"), wait_s("e", "f")] == [11.0, 21.0]
    keys.rates.advance(11.0)
    keys.check(asked("e"))
    assert wait_s("e", "f") == 10.0


def test_two_rate_keys_of_others_that_go_make_room_for_one() -> None:
    keys = Keys(Limits(rate_keys_len_max=5))
    keys.rates.advance(0.0)
    used(keys, "a", at_s=90.0)
    used(keys, "b", tenant="blue", at_s=10.0)
    used(keys, "c", tenant="blue", at_s=20.0)

    with pytest.raises(ResourceExhausted) as refused:
        keys.check(asked("d", "e"))
    assert refused.value.retry_after_s == 21.0


def test_while_open_tasks_keep_all_rate_keys_the_time_to_wait_is_short() -> None:
    keys = Keys(Limits(rate_keys_len_max=2))
    keys.of(lane(rates=(RateLimit("a", 1, 1_000),)))
    keys.rates.advance(0.0)

    with pytest.raises(ResourceExhausted) as refused:
        keys.check(asked("b"))
    assert refused.value.retry_after_s == RETRY_AFTER_S
