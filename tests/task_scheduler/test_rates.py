"""Rates: never more starts in a period than allowed, none that waits for longer than it must."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kernel.errors import ResourceExhausted
from services.kernel.instant import Instant
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.core import catalog
from services.task_scheduler.core.event import RateLimit, Terms
from services.task_scheduler.core.limits import Limits, Rate
from services.task_scheduler.core.rates import EXACT_LEN, PARTS, RateKey, Rates
from services.task_scheduler.core.restoring import Restoring
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.snapshot import Album, Picture
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Task
from tests.task_scheduler.life import Life
from tests.task_scheduler.rig import START, Rig, facts


def rated(limit: int = 2, period_ms: int = 1_000, key: str = "api", priority: int = 5) -> Terms:
    return Terms(priority=priority, rate_limits=(RateLimit(key, limit, period_ms),))


def rig_of(tasks: int = 0, terms: Terms | None = None, **limits: object) -> Rig:
    rig = Rig(Limits(**limits))
    rig.credit("work", "more", total=1_000)
    for _ in range(tasks):
        rig.submit_one(terms=terms or rated())
    return rig


STEP_S = 0.125
"""What binary fractions hold exactly."""


def spend(rig: Rig, seconds: float) -> None:
    """Let time pass, with grants at every step."""
    for _ in range(round(seconds / STEP_S)):
        rig.advance(STEP_S)


def started(rig: Rig) -> list[float]:
    """Return when tasks were granted, in seconds from the start."""
    return [
        (event.wall_ms - START.wall_ms) / 1000
        for event in rig.events
        if event.kind is Kind.ASSIGNED
    ]


def restored(rig: Rig) -> Rig:
    again = Rig(rig.limits, router="")
    again.core = Scheduler(rig.limits, random.Random(2).random)
    again.router, again.now = rig.router, Instant(5.0, rig.now.wall_ms)
    restoring = Restoring(again.book, again.now)
    for part in Album(pack).parts(Picture(rig.book)):
        restoring.add(unpack(part))
    restoring.finish()
    return again


def begun(again: Rig) -> Rig:
    again.core.start(again.now)
    again.core.dispatch.open("r1", [], again.now)
    again.events = again.events[:0]
    again.credit("work", total=1_000)
    return again


# --- How many start --------------------------------------------------------------------------


def test_so_many_start_in_each_period_and_the_next_as_soon_as_they_may() -> None:
    rig = rig_of(5)
    spend(rig, 2.5)

    assert started(rig) == [0.0, 0.0, 1.0, 1.0, 2.0]


def test_a_period_slides_and_does_not_begin_anew() -> None:
    rig = rig_of(1)
    spend(rig, 0.875)
    for _ in range(3):
        rig.submit_one(terms=rated())
    spend(rig, 2.0)

    # Periods that began at full seconds would let three start within an eighth of one.
    assert started(rig) == [0.0, 0.875, 1.0, 1.875]


def test_all_rates_of_a_task_must_have_room_the_same_key_with_two_periods_too() -> None:
    terms = Terms(rate_limits=(RateLimit("api", 2, 1_000), RateLimit("api", 3, 10_000)))
    rig = rig_of(4, terms)
    spend(rig, 11.0)

    assert started(rig) == [0.0, 0.0, 1.0, 10.0]


def test_each_attempt_counts() -> None:
    rig = rig_of(2, rated(limit=1))
    (first,) = [task for task in rig.book.tasks.values() if task.state is State.ASSIGNED]
    rig.start(first)
    rig.fail(rig.lease(first))
    spend(rig, 3.0)

    assert started(rig)[:3] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("reason", "given_back"),
    [
        ("NACK_BUSY", True),
        ("NACK_INCAPABLE", True),
        ("NACK_DRAINING", True),
        ("NACK_TOO_LARGE", True),
        ("NO_AGENT", True),
        ("ROUTER_DRAINING", True),
        ("FREE_ELSEWHERE", True),
        ("AGENT_GONE", False),
        ("ACK_TIMEOUT", False),
        ("SOMETHING_NEW", False),
    ],
)
def test_a_start_is_given_back_where_no_agent_has_the_task(reason: str, given_back: bool) -> None:
    rig = rig_of(2, rated(limit=1, period_ms=86_400_000))
    (first,) = [task for task in rig.book.tasks.values() if task.state is State.ASSIGNED]
    rig.advance(1.0)
    rig.core.outcomes.handed_back("r1", rig.lease(first), reason, "a1", rig.now)
    rig.take()

    assert started(rig) == ([0.0, 1.0] if given_back else [0.0])
    assert facts(rig.restarted().core) == facts(rig.core)


def test_routers_that_die_let_no_period_have_too_many_starts() -> None:
    rig = rig_of(3, rated(limit=1, period_ms=3_600_000))
    for _ in range(3):
        # Its agent may work already: what it reports dies with the router.
        rig.core.dispatch.open("r1", (), rig.now)
        rig.credit("work", total=10)
        rig.core.dispatch.close("r1", rig.now)
        spend(rig, 2 * rig.limits.router_grace_s)
        rig.core.dispatch.open("r1", (), rig.now)
        rig.credit("work", total=10)
        spend(rig, 2 * rig.limits.lease_ttl_s)

    assert started(rig) == [0.0]
    assert any(event.kind is Kind.HANDED_BACK for event in rig.events)


def test_a_full_rate_holds_up_nobody_else() -> None:
    rig = rig_of(3, rated(limit=1, priority=9))
    other = rig.submit_one(terms=Terms(priority=0))

    assert other.state is State.ASSIGNED


def test_lanes_under_one_rate_go_on_in_their_order() -> None:
    rig = rig_of(1, rated(limit=1))
    low = rig.submit_one(terms=rated(limit=1, priority=1))
    more = rig.submit_one("more", terms=rated(limit=1, priority=5))
    high = rig.submit_one(terms=rated(limit=1, priority=9))
    order: list[Task] = []
    for _ in range(30):
        rig.advance(0.1)
        order += [grant.task for grant in rig.grants() if grant.task not in order]

    assert order[1:] == [high, more, low]


def test_those_that_come_after_a_task_that_runs_for_long_start_when_they_may() -> None:
    rig = rig_of(1, rated(limit=1))
    low, high = (rig.submit_one(terms=rated(limit=1, priority=p)) for p in (1, 9))
    spend(rig, 1.0)
    assert (low.state, high.state) == (State.QUEUED, State.ASSIGNED)
    rig.start(high)
    spend(rig, 1.0)

    assert low.state is State.ASSIGNED
    assert started(rig) == [0.0, 1.0, 2.0]


def test_keys_of_tenants_are_their_own_unless_they_are_shared() -> None:
    for shared, expected in (({}, 2), ({"api": Rate(1, 1_000)}, 1)):
        rig = rig_of(shared_rate_limits=shared)
        for tenant in ("red", "blue"):
            rig.submit_one(terms=rated(limit=1), tenant=tenant)
        assert len(started(rig)) == expected


def test_a_limit_of_the_settings_goes_before_a_tasks() -> None:
    rig = rig_of(rate_limits={"api*": Rate(3, 1_000), "api-slow": Rate(1, 1_000)})
    for key in ("api-fast", "api-slow"):
        for _ in range(5):
            rig.submit_one(terms=rated(limit=100, period_ms=50, key=key))

    assert len(started(rig)) == 3 + 1


def test_a_key_that_nobody_needs_is_forgotten_when_its_starts_are_over() -> None:
    rig = rig_of(1)
    rig.complete(rig.lease(next(iter(rig.book.tasks.values()))))
    rates = rig.book.queue.keys.rates
    rig.advance(0.9)
    assert len(rates) == 1

    rig.advance(0.2)
    assert (len(rates), rates.next_s) == (0, None)


def test_rate_keys_are_bounded() -> None:
    rig = rig_of(rate_keys_len_max=4)
    rig.submit_one(terms=rated(key="a"))
    rig.submit_one(terms=rated(key="b"))
    with pytest.raises(ResourceExhausted) as refused:
        rig.submit_one(terms=rated(key="c"))

    assert refused.value.reason == "RATE_KEYS_FULL"
    assert refused.value.retry_after_s
    rig.submit_one(terms=rated(key="a"))


# --- Agents that are not free ------------------------------------------------------------------


def test_a_task_with_a_rate_goes_to_a_free_agent_alone_and_keeps_its_turn() -> None:
    rig = Rig()
    urgent = rig.submit_one(terms=rated(priority=9))
    plain = rig.submit_one(terms=Terms(priority=5))
    # One agent that is busy, and room for tasks that wait for it.
    rig.credit("work", total=4, ahead=4)
    assert (urgent.state, plain.state) == (State.QUEUED, State.QUEUED)

    rig.credit("work", total=5, ahead=4)
    assert urgent.state is State.ASSIGNED
    assert plain.state is State.ASSIGNED


def test_a_full_rate_does_not_keep_others_from_waiting_at_a_router() -> None:
    rig = rig_of(2, rated(limit=1, priority=9))
    plain = rig.submit_one("other", terms=Terms(priority=5))
    rig.credit("other", "work", class_id=2, total=4, ahead=4)

    assert plain.state is State.ASSIGNED


# --- Restarts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Rig.restarted, restored])
def test_the_rate_holds_over_a_restart(how) -> None:
    rig = rig_of(4)
    for task in list(rig.book.leases.values()):
        rig.start(task)
    spend(rig, 0.5)

    again = begun(how(rig))
    spend(again, 1.0)

    assert started(again) == [1.0, 1.0]


@pytest.mark.parametrize("how", [Rig.restarted, restored])
def test_starts_outlive_the_tasks_that_made_them(how) -> None:
    rig = rig_of(2)
    for task in list(rig.book.tasks.values()):
        rig.complete(rig.lease(task))
    spend(rig, 0.5)

    again = begun(how(rig))
    again.submit_one(terms=rated())
    spend(again, 1.0)

    assert started(again) == [1.0]


# --- What people see ---------------------------------------------------------------------------


def test_a_task_tells_that_it_waits_for_a_rate_and_until_when() -> None:
    rig = rig_of(3)
    rig.advance(0.25)
    waiting = [task for task in rig.book.tasks.values() if task.state is State.QUEUED]

    assert catalog.waiting_for(rig.book, waiting[0]) == (
        "It waits for the rate of the key api, under which 2 tasks have started in 1 s: "
        "the next may in 0.75 s."
    )


def test_keys_with_most_waiting_come_first() -> None:
    rig = rig_of(4, rated(key="few"))
    for _ in range(9):
        rig.submit_one(terms=rated(key="many"))
    rows = catalog.rate_keys(rig.book, 10)

    assert [(key.name, key.started(), key.waiting) for key in rows] == [
        ("many", 2, 7),
        ("few", 2, 2),
    ]
    assert rows[0].next_ms() == START.wall_ms + 1_000


# --- Exactness ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 50, 200, 1_000]), st.integers(20, 5_000))
def test_no_period_has_more_starts_than_allowed_and_few_wait_for_long(
    seed: int, limit: int, period_ms: int
) -> None:
    draw, rates = random.Random(seed), Rates()
    key = RateKey("api", "", period_ms, rates)
    now_ms, starts = 0, []
    for _ in range(500):
        now_ms += draw.choice([0, 0, 1, 2, draw.randint(0, max(1, 3 * period_ms // limit))])
        rates.now_s = now_ms / 1000
        inside = sum(1 for at_ms in starts[-limit:] if at_ms + period_ms > now_ms)
        if not key.full(limit):
            assert inside < limit
            key.start(now_ms / 1000, now_ms)
            starts.append(now_ms)
        else:
            # Nobody waits for a start that is longer ago than a part of the period more.
            late_ms = period_ms + max(1, period_ms // PARTS)
            late = sum(1 for at_ms in starts[-limit:] if at_ms + late_ms > now_ms)
            assert late >= limit
    assert len(key.starts()) <= EXACT_LEN + PARTS + 2


def test_a_start_that_is_given_back_is_the_one_that_was_counted() -> None:
    rates = Rates()
    key = RateKey("api", "", 1_000, rates)
    for at_ms in (0, 100, 200):
        key.start(at_ms / 1000, at_ms)
    key.give_back(100)
    key.give_back(100)  # there is no other at this time
    rates.now_s = 1.0

    assert (key.started(), key.starts()) == (1, ((200, 1, 200),))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1_000_000))
def test_whatever_happens_the_log_shows_no_period_with_too_many_starts(seed: int) -> None:
    life = Life(seed)
    for _ in range(150):
        life.step()

    for (_, limit, period_ms, _), times in starts_by_rate(life.rig).items():
        for first, last in zip(times, times[limit:], strict=False):
            assert last - first >= period_ms


def starts_by_rate(rig: Rig) -> dict[tuple[str, int, int, str], list[int]]:
    """Return the times of starts that agents took or may have taken, by rate and tenant."""
    rates, granted = {}, {}
    found: dict[tuple[str, int, int, str], list[int]] = defaultdict(list)
    for event in rig.events:
        if event.kind is Kind.CREATED:
            created = event.detail
            rates[event.task_id] = [(*one, created.tenant) for one in created.terms.rate_limits]
        elif event.kind is Kind.ASSIGNED:
            granted[event.task_id] = event.wall_ms
            for name in rates[event.task_id]:
                found[name].append(event.wall_ms)
        elif event.kind is Kind.HANDED_BACK and event.detail.failure.reason == "NACK_BUSY":
            for name in rates[event.task_id]:
                found[name].remove(granted[event.task_id])
    return found


def test_a_rate_is_used_to_the_full_by_many_that_wait() -> None:
    rig = rig_of(200, rated(limit=10, period_ms=1_000))
    spend(rig, 5.0)

    assert started(rig) == [float(n) for n in range(6) for _ in range(10)]
