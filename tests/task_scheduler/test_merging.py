from __future__ import annotations

import random

import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Task
from podium.v1.task_scheduler_pb2 import GetQueueStatsResponse
from services.kernel.errors import InvalidArgument
from services.kernel.pages import encode_token
from services.task_scheduler.servicer.merging import (
    END,
    Part,
    Tokens,
    page_of,
    positions_in,
    requeued,
    stats_of,
)

KEY = b"k" * 32
pb = task_scheduler_pb2


def part_of(log: list[int], position: str, size: int) -> Part:
    """A page of a partition whose items are numbers, largest first."""
    left = [number for number in log if not position or number < int(position)]
    page = left[:size]
    return Part(page, position, str(page[-1]) if len(left) > size else END)


def test_pages_over_partitions_hold_each_item_once_and_in_order() -> None:
    chance = random.Random(7)
    for _ in range(200):
        numbers = chance.sample(range(1_000), chance.randint(0, 60))
        logs: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for number in sorted(numbers, reverse=True):
            logs[chance.choice([0, 1, 1, 2])].append(number)
        size = chance.randint(1, 10)
        found: list[int] = []
        after = ""
        while True:
            positions = positions_in(after, logs)
            parts = {n: part_of(logs[n], at, size) for n, at in positions.items() if at != END}
            page, after = page_of(parts, size, int, str, descending=True)
            assert len(page) <= size
            found += page
            if not after:
                break
        assert found == sorted(numbers, reverse=True)


def test_a_page_that_found_nothing_yet_goes_on_where_each_partition_has_come_to() -> None:
    # A partition looks at so many tasks and no more; a rare match may lie behind them.
    parts = {0: Part([], "9", "5"), 1: Part([], "", END)}

    assert page_of(parts, 3, int, str, descending=True) == ([], "0:5")


def test_statistics_are_added_up_and_told_as_those_of_one() -> None:
    first = GetQueueStatsResponse(durable_seq=10, commit_count=2, router_count=3)
    second = GetQueueStatsResponse(durable_seq=5, commit_count=1, router_count=2, log_damage="bad")
    first.states.add(state=Task.STATE_QUEUED, count=2)
    second.states.add(state=Task.STATE_QUEUED, count=3)
    second.states.add(state=Task.STATE_FAILED, count=1)
    for part, age_s in ((first, 5), (second, 9)):
        row = part.priorities.add(priority=5, count=4)
        row.oldest_age.FromSeconds(age_s)
        part.requirements.add(
            required_capabilities=["work"], count=4, granted_count=1, schedulable=part is second
        )
        part.pauses.add(type="work", reason="why")
        part.rate_keys.add(key="api", tenant=f"t{age_s}", waiting_count=age_s)
    first.tenants.add(tenant="small", open_count=1)
    second.tenants.add(tenant="large", open_count=7)

    whole = stats_of([first, second])

    assert (whole.durable_seq, whole.commit_count, whole.router_count) == (15, 3, 3)
    assert [(row.state, row.count) for row in whole.states] == [
        (Task.STATE_QUEUED, 5),
        (Task.STATE_FAILED, 1),
    ]
    assert [(r.count, r.oldest_age.seconds) for r in whole.priorities] == [(8, 9)]
    assert [(r.count, r.granted_count, r.schedulable) for r in whole.requirements] == [(8, 2, True)]
    assert [row.tenant for row in whole.tenants] == ["large", "small"]
    assert [(row.tenant, row.waiting_count) for row in whole.rate_keys] == [("t9", 9), ("t5", 5)]
    assert (len(whole.pauses), whole.log_damage) == (1, "bad")


def at(position: str) -> str:
    return encode_token(position, b"filter", KEY)


def test_partitions_of_which_nothing_is_left_are_not_asked_again() -> None:
    tokens = Tokens(b"filter", KEY)
    assert tokens.of("", [0, 1, 2]) == {0: "", 1: "", 2: ""}

    token = tokens.after([0, 1, 2], [at("17-90"), "", at("00-0-1")])

    assert tokens.of(token, [0, 1, 2]) == {0: at("17-90"), 2: at("00-0-1")}
    assert tokens.after([0, 2], ["", ""]) == ""
    with pytest.raises(InvalidArgument):
        Tokens(b"another", KEY).of(token, [0, 1, 2])


def test_refusals_of_all_partitions_are_added_up_by_reason() -> None:
    full = pb.RequeueRefusal(reason="BACKLOG_FULL", message="one", count=2)
    answers = [
        pb.RequeueTasksResponse(task_ids=["a"], refusals=[full]),
        pb.RequeueTasksResponse(
            task_ids=["b"], refusals=[full, pb.RequeueRefusal(reason="OTHER", count=1)]
        ),
    ]

    whole = requeued(answers)

    assert list(whole.task_ids) == ["a", "b"]
    assert [(row.reason, row.message, row.count) for row in whole.refusals] == [
        ("BACKLOG_FULL", "one", 4),
        ("OTHER", "", 1),
    ]
