from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from podium.v1 import task_scheduler_pb2 as tasks
from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse, Overview, OverviewSample
from podium.v1.task_pb2 import Payload, Task, TaskSpec
from services.edge.servicer.feeds import Feeds
from services.edge.servicer.overview import OverviewFold, lonely_len_max, samples_len_max
from services.kernel.clock import ManualClock
from services.kernel.errors import PermissionDenied, PodiumError, Unavailable
from tests.edge.conftest import Edge
from tests.support.waiting import eventually

REQUEST = BridgeRequest()
REQUEST.watch_overview.SetInParent()


def stats(running: int, waiting: int) -> tasks.GetQueueStatsResponse:
    states = {Task.STATE_RUNNING: running, Task.STATE_ASSIGNED: 1, Task.STATE_COMPLETED: 9}
    return tasks.GetQueueStatsResponse(
        states=[tasks.StateCount(state=state, count=count) for state, count in states.items()],
        priorities=[
            tasks.PriorityDepth(priority=5, count=waiting),
            tasks.PriorityDepth(priority=6),
        ],
    )


class Scripted:
    """Peers that answer with what a test has put there."""

    def __init__(self) -> None:
        self.stats: tasks.GetQueueStatsResponse | PodiumError = stats(2, 3)
        self.asked: list[str] = []

    def watches(self, arm: str) -> bool:
        return False

    async def ask(self, arm: str, request: BridgeRequest, token: str) -> BridgeResponse:
        self.asked.append(arm)
        if isinstance(self.stats, PodiumError):
            raise self.stats
        if arm == "list":
            spec = TaskSpec(type="a", payload=Payload(data=b"x" * 1_000))
            task = Task(task_id="t-1", spec=spec, result=Payload(data=b"y" * 1_000))
            return BridgeResponse(tasks=tasks.ListTasksResponse(tasks=[task]))
        return BridgeResponse(queue_stats=self.stats)

    def watch(self, arm: str, request: BridgeRequest, token: str) -> AsyncIterator[BridgeResponse]:
        raise AssertionError(arm)


class Rig:
    """Feeds before scripted peers, under a clock that stands until it is told."""

    def __init__(self) -> None:
        self.peers = Scripted()
        self.clock = ManualClock()
        self.feeds = Feeds(self.peers, self.clock)

    def follow(self, token: str = "") -> Any:
        return self.feeds.follow("watch_overview", REQUEST, token)

    async def pass_second(self) -> None:
        count = len(self.peers.asked)
        await self.clock.advance(1.0)
        await eventually(lambda: len(self.peers.asked) > count)


async def test_an_overview_counts_what_runs_and_waits_and_names_the_newest_tasks() -> None:
    rig = Rig()

    told = (await anext(rig.follow())).response.overview

    assert told.queue_stats == stats(2, 3)
    (sample,) = told.samples
    assert sample.in_flight_count == 3
    assert [(each.priority, each.count) for each in sample.priorities] == [(5, 3)]
    assert sample.sample_time.ToMilliseconds() == rig.clock.now().wall_ms
    assert list(told.latest_tasks) == [Task(task_id="t-1", spec=TaskSpec(type="a"))]


async def test_however_many_follow_the_scheduler_is_asked_once_a_second() -> None:
    rig = Rig()
    readers = [rig.follow() for _ in range(20)]
    first = [await anext(reader) for reader in readers]
    await rig.pass_second()
    second = [await anext(reader) for reader in readers]

    assert rig.peers.asked.count("queue_stats") == 2
    assert len({id(update) for update in second}) == 1
    assert all(len(update.response.overview.samples) == 1 for update in (*first, *second))


async def test_who_comes_later_is_told_the_past() -> None:
    rig = Rig()
    first = rig.follow()
    for running in range(3):
        rig.peers.stats = stats(running, 0)
        if running:
            await rig.pass_second()
        await anext(first)

    later = (await anext(rig.follow())).response.overview

    assert [sample.in_flight_count for sample in later.samples] == [1, 2, 3]


async def test_while_the_scheduler_is_away_the_last_counts_are_told_as_such() -> None:
    rig = Rig()
    first = rig.follow()
    await anext(first)
    rig.peers.stats = Unavailable("PEER_UNAVAILABLE", "It cannot be reached.")
    await rig.pass_second()

    away = (await anext(first)).response.overview
    later = (await anext(rig.follow())).response.overview

    assert (away.unreachable, list(away.samples)) == ("It cannot be reached.", [])
    assert later.unreachable == "It cannot be reached."
    assert later.queue_stats == stats(2, 3)
    assert len(later.samples) == 1
    rig.peers.stats = stats(7, 0)
    await rig.pass_second()
    assert (await anext(first)).response.overview.unreachable == ""


async def test_a_caller_who_may_not_know_is_told_so() -> None:
    rig = Rig()
    rig.peers.stats = PermissionDenied("ROLE_REQUIRED", "The caller needs the role reader.")

    with pytest.raises(PermissionDenied):
        await anext(rig.follow("a-token"))


async def test_sampling_goes_on_for_a_while_when_the_last_reader_has_left_and_then_ends() -> None:
    rig = Rig()
    reader = rig.follow("a-token")
    await anext(reader)
    await reader.aclose()
    listed = rig.peers.asked.count("list")

    for _ in range(lonely_len_max - 1):
        await rig.pass_second()
    assert len(rig.feeds) == 1
    await rig.pass_second()

    await eventually(lambda: len(rig.feeds) == 0)
    assert rig.peers.asked.count("list") == listed


async def test_what_needs_no_token_is_sampled_from_the_beginning() -> None:
    rig = Rig()
    keeping = asyncio.create_task(rig.feeds.keep([("watch_overview", REQUEST)]))
    await eventually(lambda: rig.peers.asked)
    for _ in range(4):
        await rig.pass_second()

    told = (await anext(rig.follow())).response.overview

    assert len(told.samples) == 5
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


def test_the_past_is_as_long_as_ten_minutes_are() -> None:
    fold = OverviewFold(REQUEST)
    for number in range(samples_len_max + 5):
        sample = OverviewSample(in_flight_count=number)
        fold.take(BridgeResponse(overview=Overview(samples=[sample])))

    told = fold.told()

    assert told is not None
    assert len(told.overview.samples) == samples_len_max
    assert told.overview.samples[0].in_flight_count == 5


async def test_a_connection_follows_the_overview(edge: Edge) -> None:
    edge.peers.scheduler.answers["GetQueueStats"] = stats(2, 3)
    edge.peers.scheduler.answers["ListTasks"] = tasks.ListTasksResponse(
        tasks=[Task(task_id="t-1", state=Task.STATE_QUEUED)]
    )
    socket = await edge.connect()

    await socket.say({"ref": "o", "watchOverview": {}})
    told = await socket.hear()
    while told["overview"].get("unreachable") or "latestTasks" not in told["overview"]:
        told = await socket.hear()

    assert told["ref"] == "o"
    assert told["overview"]["samples"][-1]["inFlightCount"] == "3"
    assert told["overview"]["latestTasks"][0]["taskId"] == "t-1"
