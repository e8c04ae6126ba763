from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.task_scheduler.core import shares as module
from services.task_scheduler.core.shares import UNKNOWN_S, WINDOW_S, Share, Shares

PRIORITY = 5


def share_of(shares: Shares, name: str, *, waiting: bool = True) -> Share:
    share = shares.share(shares.tenant(name), PRIORITY)
    if waiting:
        share.arrive()
    return share


def run(shares: Shares, share: Share, used_s: float, task_type: str = "work") -> None:
    charged_s = share.charge(task_type)
    share.settle(charged_s, used_s)
    shares.learn(share.tenant, task_type, used_s)


def test_what_was_used_takes_the_place_of_what_was_charged() -> None:
    shares = Shares({})
    share = share_of(shares, "red")

    assert share.charge("work") == UNKNOWN_S
    share.settle(UNKNOWN_S, 7.0)

    assert share.passed_s == 7.0
    assert share.tenant.used_s == 7.0


def test_the_next_grant_is_charged_with_what_such_tasks_took() -> None:
    shares = Shares({})
    share = share_of(shares, "red")
    run(shares, share, 10.0)

    assert share.charge("work") == 10.0
    assert share.passed_s == 20.0
    assert share.charge("other") == UNKNOWN_S


def test_what_was_charged_too_much_is_paid_back_by_the_next_grants() -> None:
    shares = Shares({})
    share = share_of(shares, "red")
    run(shares, share, 10.0)
    share.settle(share.charge("work"), 4.0)
    assert (share.passed_s, share.refund_s) == (20.0, 6.0)

    share.charge("work")

    assert (share.passed_s, share.refund_s) == (24.0, 0.0)


def test_a_tenant_of_twice_the_weight_passes_half_as_far() -> None:
    shares = Shares({"red": 2.0, "*": 0.5})
    red, blue = share_of(shares, "red"), share_of(shares, "blue")
    run(shares, red, 10.0)
    run(shares, blue, 10.0)

    assert (red.passed_s, blue.passed_s) == (5.0, 20.0)


def test_who_comes_back_begins_where_the_one_was_that_was_served_last() -> None:
    shares = Shares({})
    busy, idle = share_of(shares, "busy"), share_of(shares, "idle", waiting=False)
    for _ in range(20):
        run(shares, busy, 10.0)

    idle.arrive()

    assert idle.passed_s == busy.passed_s - 10.0 == 190.0


def test_who_has_passed_more_keeps_it_when_coming_back() -> None:
    shares = Shares({})
    ahead, behind = share_of(shares, "ahead"), share_of(shares, "behind")
    run(shares, ahead, 50.0)
    run(shares, behind, 10.0)
    ahead.waiting = 0
    ahead.arrive()

    assert ahead.passed_s == 50.0


def test_who_waits_and_is_not_served_lags_by_so_much_and_no_more_and_puts_nobody_back() -> None:
    shares = Shares({})
    alone, other = share_of(shares, "alone"), share_of(shares, "other")
    for _ in range(100):
        run(shares, alone, 60.0)

    assert alone.passed_s == 6_000.0
    assert other.level_s == 6_000.0 - WINDOW_S
    other.charge("work")
    assert other.passed_s == 6_000.0 - WINDOW_S + UNKNOWN_S


def test_what_a_few_long_tasks_were_charged_too_much_is_paid_back_whole() -> None:
    shares = Shares({})
    share = share_of(shares, "red")
    run(shares, share, 5_000.0)
    share.settle(share.charge("work"), 1_000.0)

    assert share.refund_s == 4_000.0

    share.settle(share.charge("other"), UNKNOWN_S)
    assert share.refund_s == 3_999.0


def test_priorities_are_accounted_for_on_their_own() -> None:
    shares = Shares({})
    run(shares, share_of(shares, "red"), 10.0)

    assert shares.share(shares.tenant("red"), 0).passed_s == 0.0


def test_tenants_and_types_are_bounded_and_the_busy_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TENANTS_LEN_MAX", 3)
    monkeypatch.setattr(module, "TYPES_LEN_MAX", 2)
    shares = Shares({})
    shares.tenant("busy").open_tasks = 1
    for name in ("a", "b", "c", "d"):
        shares.learn(shares.tenant("busy"), name, 1.0)
        shares.tenant(name)

    assert [tenant.name for tenant in shares] == ["busy", "c", "d"]
    assert [tenant.name for tenant in shares.take_forgotten()] == ["a", "b"]
    assert shares.take_forgotten() == []
    assert list(shares.tenant("busy").run_s) == ["c", "d"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_it_goes_on_from_plain_values_as_if_nothing_had_happened(seed: int) -> None:
    draw = random.Random(seed)
    shares = Shares({"a": 3.0})
    for _ in range(60):
        play(shares, draw)
    again = Shares({"a": 3.0})
    again.restore(shares.plain())
    for tenant in shares:
        for share in tenant.shares:
            for _ in range(share.waiting if share is not None else 0):
                again.share(again.tenant(tenant.name), share.priority).arrive()
    again.restore(shares.plain())

    one, two = random.Random(seed), random.Random(seed)
    for _ in range(40):
        play(shares, one)
        play(again, two)
    assert again.plain() == shares.plain()


def play(shares: Shares, draw: random.Random) -> None:
    share = shares.share(shares.tenant(draw.choice("abc")), draw.randint(4, 5))
    action = draw.random()
    if action < 0.4:
        share.arrive()
    elif action < 0.7 and share.waiting:
        share.waiting -= 1
        run(shares, share, draw.choice([0.5, 3.0, 30.0]), draw.choice(["x", "y"]))


class NotLookedThrough(dict):
    """Tells when somebody looks at all of it."""

    def values(self):
        raise AssertionError("looked through")


def test_a_new_tenant_costs_no_look_at_those_that_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TENANTS_LEN_MAX", 3)
    shares = Shares({})
    shares._tenants = NotLookedThrough()
    for name in "abcdef":
        shares.tenant(name).open_tasks = 1
    assert len(shares._tenants) == 6

    for name in "ace":
        shares.tenant(name).open_tasks = 0
        shares.idle(shares.tenant(name))
    shares.tenant("new")

    assert list(shares._tenants) == ["b", "d", "f", "new"], "nobody idle is kept over the limit"
