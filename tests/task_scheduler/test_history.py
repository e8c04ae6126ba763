from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from podium.v1 import event_pb2, task_scheduler_pb2
from services.task_scheduler.ports import Group
from services.task_scheduler.servicer.history import (
    FIRST_LEN,
    LAST_BYTES,
    LAST_LEN,
    SEARCHES_MAX,
    Histories,
    History,
)
from services.task_scheduler.servicer.watch import as_frame
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Report, Served, lease, spec

Type = event_pb2.Event.Type


def event(seq: int, kind: Type = Type.TYPE_QUEUED, **parts: Any) -> event_pb2.Event:
    return event_pb2.Event(seq=seq, type=kind, task_id="t1", **parts)


def progress(seq: int) -> event_pb2.Event:
    return event(seq, Type.TYPE_PROGRESS, progress={"message": f"step {seq}"})


def told(history: History) -> list[int]:
    joined = b"".join(history.frames())
    return [one.seq for one in task_scheduler_pb2.WatchEventsResponse.FromString(joined).events]


def test_of_progress_reports_in_a_row_the_last_is_told() -> None:
    history = History()
    for one in (event(1), *map(progress, range(2, 9)), event(9), progress(10), progress(11)):
        history.add(one)

    assert told(history) == [1, 8, 9, 11]
    assert history.left_out == 7


def test_of_very_many_events_the_first_and_the_last_are_told() -> None:
    history = History()
    count = FIRST_LEN + LAST_LEN + 30
    for seq in range(1, count + 1):
        history.add(event(seq))

    seqs = told(history)
    assert seqs == [*range(1, FIRST_LEN + 1), *range(FIRST_LEN + 31, count + 1)]
    assert history.left_out == 30


def test_large_events_are_bounded_by_their_bytes() -> None:
    history = History()
    for seq in range(1, 201):
        history.add(event(seq, failed={"failure": {"message": "x" * 65_536}}))

    frames = history.frames()
    assert sum(map(len, frames)) <= 2 * LAST_BYTES
    assert len(frames) + history.left_out == 200
    assert told(history)[0] == 1 and told(history)[-1] == 200


async def test_only_some_searches_go_on_at_a_time() -> None:
    class Desk:
        running = most = 0

        async def search(
            self, needle: bytes, first_seq: int, last_seq: int
        ) -> AsyncIterator[Sequence[Group]]:
            self.running += 1
            self.most = max(self.most, self.running)
            for seq in range(first_seq, last_seq + 1):
                await asyncio.sleep(0)
                yield [Group(seq, seq, as_frame(event(seq)))]
            self.running -= 1

    desk: Any = Desk()
    histories = Histories(desk)

    found = await asyncio.gather(*(histories.of("t1", 1, 5) for _ in range(10)))

    assert [told(history) for history in found] == [[1, 2, 3, 4, 5]] * 10
    assert (desk.most, desk.running) == (SEARCHES_MAX, 0)


@pytest.mark.parametrize("omitted", [False, True])
async def test_a_task_that_reports_often_can_be_explained(served: Served, omitted: bool) -> None:
    count = 3_000
    async with served.router("work") as router:
        task_id = (await served.submit(spec()))[0]
        grant = await router.grant()
        await router.start(grant)
        for first in range(1, count, 100):
            await router.say(
                *(
                    Report(
                        progressed=task_scheduler_pb2.AttemptProgressed(
                            lease=lease(grant),
                            agent_id="a1",
                            progress={"report_seq": seq, "message": str(seq)},
                        )
                    )
                    for seq in range(first, first + 100)
                )
            )

        async def there() -> bool:
            return (await served.get(task_id)).progress_message == str(count)

        await eventually(there)
        request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id, omit_events=omitted)
        explained = await served.stub.ExplainTask(request)

    assert explained.task.task_id == task_id
    if omitted:
        assert not explained.events
    else:
        assert [Type.Name(one.type)[5:] for one in explained.events] == [
            *("CREATED", "QUEUED", "ASSIGNED", "STARTED", "PROGRESS"),
        ]
        assert explained.events[-1].seq == explained.task.last_seq
        assert explained.left_out_count == count - 1
