from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

from podium.sdk.client import Client
from podium.sdk.errors import Unavailable
from podium.sim.fleet import assignment_ms
from podium.sim.load import Tally
from podium.v1 import event_pb2

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
