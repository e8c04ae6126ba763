"""What waits and runs, sampled once a second for all who follow it, with its last ten minutes.

TaskScheduler tells only how it is now. A hundred dashboards that each asked it every second would
cost it more than a few routers, and a page that was just opened would know nothing of before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

from podium.v1.bridge_pb2 import BridgeRequest, BridgeResponse, Overview, OverviewSample
from podium.v1.task_pb2 import Task
from podium.v1.task_scheduler_pb2 import GetQueueStatsResponse
from services.edge.ports import Peers
from services.kernel.clock import Clock
from services.kernel.errors import PodiumError

arm = "watch_overview"
interval_s = 1.0
samples_len_max = 600
latest_len_max = 8
lonely_len_max = 600
"""Samples that are taken after the last reader has left: a page that comes back has no hole."""

_ASK_STATS = BridgeRequest()
_ASK_STATS.queue_stats.SetInParent()
_ASK_LATEST = BridgeRequest()
_ASK_LATEST.list.page_size = latest_len_max

_AWAY = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""Codes after which the next second may be better."""


async def sampled(
    peers: Peers, clock: Clock, token: str, followed: Callable[[], bool]
) -> AsyncIterator[BridgeResponse]:
    """Yield an overview each second.

    Args:
        peers: who is asked.
        clock: paces the samples, and dates them.
        token: what is shown to TaskScheduler.
        followed: tells whether anybody reads; without readers only the counts are taken.

    Raises:
        PodiumError: TaskScheduler refuses to tell.
    """
    while True:
        overview = Overview()
        try:
            stats = (await peers.ask("queue_stats", _ASK_STATS, token)).queue_stats
            overview.queue_stats.CopyFrom(stats)
            overview.samples.append(_sample(stats, clock))
            if followed():
                listed = (await peers.ask("list", _ASK_LATEST, token)).tasks.tasks
                overview.latest_tasks.extend(listed)
                for task in overview.latest_tasks:
                    # They may be large, and are shown nowhere.
                    task.ClearField("result")
                    task.spec.ClearField("payload")
        except PodiumError as error:
            if error.code not in _AWAY:
                raise
            overview = Overview(unreachable=error.message)
        yield BridgeResponse(overview=overview)
        await clock.sleep(interval_s)


def _sample(stats: GetQueueStatsResponse, clock: Clock) -> OverviewSample:
    running = (Task.STATE_ASSIGNED, Task.STATE_RUNNING)
    sample = OverviewSample(
        in_flight_count=sum(each.count for each in stats.states if each.state in running),
        priorities=[each for each in stats.priorities if each.count],
    )
    sample.sample_time.FromMilliseconds(clock.now().wall_ms)
    return sample


class OverviewFold:
    """How it is, and the samples of the last ten minutes."""

    def __init__(self, _: BridgeRequest) -> None:
        self._latest = Overview()
        self._samples: deque[OverviewSample] = deque(maxlen=samples_len_max)

    def take(self, response: BridgeResponse) -> None:
        """Take in the overview of one second."""
        self._samples.extend(response.overview.samples)
        self._latest = newer_of(self._latest, response.overview)

    def told(self) -> BridgeResponse | None:
        """Return all of it."""
        if not self._samples and not self._latest.unreachable:
            return None
        told = BridgeResponse(overview=self._latest)
        del told.overview.samples[:]
        told.overview.samples.extend(self._samples)
        return told


def newer_of(known: Overview, newer: Overview) -> Overview:
    """Return the newer overview, or the known one with the reason why it is not of now."""
    if not newer.unreachable:
        return newer
    stale = Overview(unreachable=newer.unreachable, latest_tasks=known.latest_tasks)
    if known.HasField("queue_stats"):
        stale.queue_stats.CopyFrom(known.queue_stats)
    return stale


def merge_overviews(into: Overview, more: Overview) -> None:
    """Let one overview say what both say."""
    samples = [*into.samples, *more.samples][-samples_len_max:]
    merged = Overview()
    merged.CopyFrom(newer_of(into, more))
    del merged.samples[:]
    merged.samples.extend(samples)
    into.CopyFrom(merged)
