from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest

from podium.cli.output import TERMINATED
from podium.sdk.client import Client
from podium.sdk.errors import Unavailable
from podium.sim.fleet import assignment_ms
from podium.sim.load import Tally
from podium.v1 import event_pb2
from tests.sdk.fakes import FakeRouter, FakeScheduler, router_of, scheduler_of, serving
from tests.support.processes import Processes
from tests.support.waiting import eventually

STARTED = event_pb2.Event.TYPE_STARTED


class Log:
    """A client that can read the log and nothing else."""

    def __init__(self, *started: tuple[str, int]) -> None:
        self.asked: list[dict[str, Any]] = []
        self._started = started

    async def watch(
        self, *, types: Sequence[int], cursor: str
    ) -> AsyncGenerator[event_pb2.Event, None]:
        self.asked.append({"types": types, "cursor": cursor})
        for task_id, latency_ms in self._started:
            event = event_pb2.Event(type=STARTED, task_id=task_id)
            event.started.assignment_latency.FromMilliseconds(latency_ms)
            yield event
        raise Unavailable("DRAINING", "the log goes no further")


def tally(*completed: str) -> Tally:
    return Tally(completed_ids=set(completed), cursor="00-7")


async def test_assignment_is_measured_on_the_tasks_of_the_load_alone() -> None:
    log = Log(("other", 9_000), ("t1", 10), ("t1", 30), ("other", 9_000), ("t2", 20))

    assert await assignment_ms(cast("Client", log), tally("t1", "t2")) == (20.0, 30.0)
    assert log.asked == [{"types": [STARTED], "cursor": "00-7"}]


async def test_a_log_that_cannot_be_read_whole_gives_no_figures() -> None:
    assert await assignment_ms(cast("Client", Log(("t1", 10))), tally("t1", "t2")) is None


async def test_without_completed_tasks_there_is_nothing_to_measure() -> None:
    assert await assignment_ms(cast("Client", Log()), tally()) is None


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGKILL, -signal.SIGKILL)]
)
async def test_the_hosts_of_an_experiment_that_is_ended_end_with_it(
    processes: Processes, how: signal.Signals, code: int
) -> None:
    router = FakeRouter()
    router.acking = False  # a host that waited for this would wait for long
    async with (
        serving(router_of(router)) as routing,
        serving(scheduler_of(FakeScheduler())) as scheduling,
    ):
        environ = {
            "PODIUM_ROUTING_ADDRESS": routing,
            "PODIUM_TASK_SCHEDULER_ADDRESS": scheduling,
            "PODIUM_OTLP_ENDPOINT": "off",
        }
        arguments = ("sim", "fleet", "--agents=4", "--hosts=2", "--profile=instant", "--rate=1")
        fleet = processes.python("-m", "podium.cli", *arguments, environ=environ)
        await eventually(lambda: sum(len(each.agents) for each in router.streams) == 4)
        router.assign(router.streams[-1].agents[0])
        await eventually(lambda: router.frames("result"))
        fleet.signal(how)

        assert await asyncio.to_thread(fleet.wait) == code
        await eventually(lambda: all(each.ended for each in router.streams), within_s=8.0)
