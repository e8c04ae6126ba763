"""WatchTasks and WatchEvents: each event once, in order, from a cursor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from podium.v1 import event_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Payload
from services.kernel.errors import InvalidArgument, ResourceExhausted, Unavailable
from services.kernel.rpc import from_rpc_error
from services.task_scheduler import __main__ as scheduler_process
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Lease
from services.task_scheduler.ports import Commit
from services.task_scheduler.servicer import feed
from tests.support.waiting import eventually
from tests.task_scheduler.rig import Rig, created
from tests.task_scheduler.serving import Served, refusal, spec, wire

ENDS = [event_pb2.Event.TYPE_COMPLETED, event_pb2.Event.TYPE_FAILED]
TasksRequest = task_scheduler_pb2.WatchTasksRequest
EventsRequest = task_scheduler_pb2.WatchEventsRequest


class Watch:
    """Reads a watch event by event."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.cursor = ""
        self.caught_up = False

    async def read(self) -> list[event_pb2.Event]:
        message = await asyncio.wait_for(self.call.read(), 10)
        assert message is not grpc.aio.EOF
        self.cursor = message.cursor
        self.caught_up = getattr(message, "caught_up", False)
        return list(message.events)

    async def take(self, count: int) -> list[event_pb2.Event]:
        events: list[event_pb2.Event] = []
        while len(events) < count:
            events += await self.read()
        assert len(events) == count, events
        return events


async def test_the_whole_log_is_followed_without_gap(served: Served) -> None:
    async with served.router("work") as router:
        await served.run(router)
        watch = Watch(served.stub.WatchEvents(EventsRequest()))
        before = await watch.take(6)
        await served.run(router)
        after = await watch.take(5)

    assert [event.seq for event in before + after] == list(range(1, 12))
    assert [event.type for event in after] == [1, 2, 3, 4, 11]


async def test_a_follower_is_told_when_it_has_seen_everything(served: Served) -> None:
    await served.submit(spec())
    watch = Watch(served.stub.WatchEvents(EventsRequest(cursor="now")))

    assert await watch.read() == []
    assert watch.caught_up
    assert watch.cursor == "00-3"


async def test_a_watch_goes_on_behind_its_cursor(served: Served) -> None:
    ids = await served.submit(*[spec() for _ in range(3)])
    first = Watch(served.stub.WatchEvents(EventsRequest(types=[1])))
    assert [event.task_id for event in await first.take(3)] == ids
    more = await served.submit(spec())

    second = Watch(served.stub.WatchEvents(EventsRequest(types=[1], cursor=first.cursor)))

    assert [event.task_id for event in await second.take(1)] == more


async def test_payloads_are_left_out_when_they_are_not_wanted(served: Served) -> None:
    async with served.router("work") as router:
        await served.run(router, b"result")
    lean = await Watch(served.stub.WatchEvents(EventsRequest(omit_payloads=True))).take(6)
    full = await Watch(served.stub.WatchEvents(EventsRequest())).take(6)

    assert not lean[1].created.spec.HasField("payload")
    assert not lean[5].completed.HasField("result")
    assert full[1].created.spec.payload.data == b"data"
    assert full[5].completed.result.data == b"result"
    assert lean[1].created.spec.type == "work"


async def test_a_client_hears_of_its_own_tasks_alone(served: Served) -> None:
    async with served.router("work") as router:
        mine = Watch(served.stub.WatchTasks(TasksRequest(submitter_id="me", types=ENDS)))
        for submitter_id in ("me", "you", "me"):
            await served.submit(spec(), submitter_id=submitter_id)
            await router.complete(await router.grant())
        events = await mine.take(2)

    assert [event.type for event in events] == [11, 11]


async def test_some_tasks_are_followed_from_their_begin(served: Served) -> None:
    async with served.router("work") as router:
        one = await served.run(router)
        await served.run(router)
        watch = Watch(served.stub.WatchTasks(TasksRequest(task_ids=[one])))
        events = await watch.take(5)

    assert {event.task_id for event in events} == {one}
    assert [event.type for event in events] == [1, 2, 3, 4, 11]


async def test_a_task_that_is_followed_twice_over_is_told_once(served: Served) -> None:
    ids = await served.submit(spec(), submitter_id="me")
    watch = Watch(served.stub.WatchTasks(TasksRequest(task_ids=ids, submitter_id="me")))
    assert len(await watch.take(2)) == 2
    await served.submit(spec("other"), submitter_id="me")
    assert len(await watch.take(2)) == 2

    await served.stub.CancelTasks(task_scheduler_pb2.CancelTasksRequest(task_ids=ids))

    assert [event.type for event in await watch.take(1)] == [13]


async def test_the_cursor_of_a_submit_lies_before_its_tasks(served: Served) -> None:
    await served.submit(spec(), submitter_id="me")
    request = task_scheduler_pb2.SubmitTasksRequest(tasks=[spec()], submitter_id="me")
    answer = await served.stub.SubmitTasks(request)
    watch = Watch(
        served.stub.WatchTasks(TasksRequest(submitter_id="me", cursor=answer.cursor, types=[1]))
    )

    assert [event.task_id for event in await watch.take(1)] == list(answer.task_ids)


async def test_what_memory_no_longer_holds_is_read_from_the_journal(tmp_path: Path) -> None:
    async with wire(tmp_path, tail_bytes_max=1) as served:
        ids = []
        async with served.router("work") as router:
            for _ in range(5):
                ids.append(await served.run(router))
        mine = await Watch(served.stub.WatchTasks(TasksRequest(task_ids=ids[:2]))).take(10)
        everything = await Watch(served.stub.WatchEvents(EventsRequest())).take(26)
        lean = await Watch(
            served.stub.WatchEvents(EventsRequest(types=[1, 11], omit_payloads=True))
        ).take(10)

    assert {event.task_id for event in mine} == set(ids[:2])
    assert [event.seq for event in everything] == list(range(1, 27))
    assert not any(event.created.spec.HasField("payload") for event in lean)
    assert not any(event.completed.HasField("result") for event in lean)


async def test_a_watch_goes_on_over_a_restart(tmp_path: Path) -> None:
    async with wire(tmp_path) as served:
        await served.submit(spec(), submitter_id="me")
        first = Watch(served.stub.WatchTasks(TasksRequest(submitter_id="me")))
        assert [event.seq for event in await first.take(2)] == [2, 3]
    async with wire(tmp_path) as served:
        request = TasksRequest(submitter_id="me", cursor=first.cursor)
        second = Watch(served.stub.WatchTasks(request))
        await served.submit(spec(), submitter_id="me")
        assert [event.type for event in await second.take(2)] == [1, 2]


async def test_tasks_that_have_left_memory_are_still_found_in_the_log(tmp_path: Path) -> None:
    async with wire(tmp_path, tail_bytes_max=1, ended_tasks_max=1) as served:
        async with served.router("work") as router:
            for n in range(3):
                await served.submit(spec(), submitter_id="me" if n == 0 else "you")
                await router.complete(await router.grant())
            watch = Watch(served.stub.WatchTasks(TasksRequest(submitter_id="me")))
            assert [event.type for event in await watch.take(5)] == [1, 2, 3, 4, 11]


async def test_the_end_of_a_task_is_told_behind_a_cursor_in_its_midst(tmp_path: Path) -> None:
    async with wire(tmp_path, tail_bytes_max=1, ended_tasks_max=1) as served:
        async with served.router("work") as router:
            mine = (await served.submit(spec(), submitter_id="me"))[0]
            first = Watch(served.stub.WatchTasks(TasksRequest(submitter_id="me")))
            grant = await router.grant()
            await router.start(grant)
            assert [event.type for event in await first.take(4)] == [1, 2, 3, 4]
            first.call.cancel()
            await router.complete(grant)
            for _ in range(2):
                await served.submit(spec(), submitter_id="you")
                await router.complete(await router.grant())

        async def forgotten() -> bool:
            everything = task_scheduler_pb2.ListTasksRequest()
            held = (await served.stub.ListTasks(everything)).tasks
            return mine not in {task.task_id for task in held}

        await eventually(forgotten)
        request = TasksRequest(submitter_id="me", cursor=first.cursor, types=ENDS)
        told = await Watch(served.stub.WatchTasks(request)).take(1)

    assert [(event.task_id, event.submitter_id) for event in told] == [(mine, "me")]


async def test_large_events_are_spread_over_messages(served: Served) -> None:
    payload = Payload(data=bytes(200_000))
    for _ in range(2):
        await served.submit(*[spec(payload=payload) for _ in range(10)])
    watch = Watch(served.stub.WatchEvents(EventsRequest(types=[1])))
    sizes = []
    while sum(sizes) < 20:
        sizes.append(len(await watch.read()))

    assert sum(sizes) == 20
    assert max(sizes) <= 6


async def test_a_follower_that_does_not_read_holds_no_memory_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[feed.Feed] = []

    def make(tail_bytes_max: int) -> feed.Feed:
        made.append(feed.Feed(tail_bytes_max))
        return made[-1]

    monkeypatch.setattr(scheduler_process, "Feed", make)
    tail_bytes, payload = 400_000, Payload(data=bytes(100_000))
    async with wire(tmp_path, tail_bytes_max=tail_bytes) as served:
        stalled = served.stub.WatchEvents(EventsRequest(types=[1]))
        reader = Watch(served.stub.WatchEvents(EventsRequest(types=[1], omit_payloads=True)))
        ids: list[str] = []
        read: list[str] = []
        for _ in range(30):
            ids += await served.submit(*[spec(payload=payload) for _ in range(10)])
            assert made[0]._tail_bytes <= tail_bytes + 10 * 110_000
        while len(read) < len(ids):
            read += [event.task_id for event in await reader.read()]
        assert read == ids

        # 30 MB later it finds everything, from the journal.
        late = Watch(stalled)
        seen: list[str] = []
        while len(seen) < len(ids):
            seen += [event.task_id for event in await late.read()]
        assert seen == ids
        stalled.cancel()


async def test_a_watcher_that_does_not_read_is_cut_off_and_told_where_to_resume(
    wired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "QUEUE_BYTES_MAX", 1_000_000)
    # From the log's beginning: "now" may be behind the task, which would never come then.
    call = wired.stub.WatchTasks(TasksRequest(submitter_id="me", types=[1]))
    await wired.submit(spec(), submitter_id="me")
    assert await call.read()
    payload = Payload(data=bytes(250_000))
    ids = []
    for _ in range(8):
        ids += await wired.submit(*[spec(payload=payload) for _ in range(12)], submitter_id="me")

    seen: list[str] = []
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        while True:
            message = await asyncio.wait_for(call.read(), 10)
            seen += [event.task_id for event in message.events]
    error = from_rpc_error(cut.value)
    assert (type(error), error.reason) == (ResourceExhausted, "WATCHER_TOO_SLOW")

    request = TasksRequest(submitter_id="me", types=[1], cursor=error.metadata["cursor"])
    watch = Watch(wired.stub.WatchTasks(request))
    while len(seen) < len(ids):
        seen += [event.task_id for event in await watch.read()]
    assert seen == ids


@pytest.mark.parametrize("cursor", ["tomorrow", "00-99", "01-0", "00-", "00--1", "00-1 "])
async def test_a_cursor_from_elsewhere_is_refused(wired: Served, cursor: str) -> None:
    for call in (
        wired.stub.WatchEvents(EventsRequest(cursor=cursor)),
        wired.stub.WatchTasks(TasksRequest(submitter_id="me", cursor=cursor)),
    ):
        error = await refusal(call.read())
        assert (type(error), error.reason) == (InvalidArgument, "CURSOR_INVALID")


@pytest.mark.parametrize(
    "request_",
    [
        TasksRequest(),
        TasksRequest(task_ids=["no/id"]),
        TasksRequest(task_ids=["a"] * 1_001),
        TasksRequest(submitter_id="a b"),
        TasksRequest(submitter_id="me", types=[0]),
        TasksRequest(submitter_id="me", types=[99]),
    ],
)
async def test_a_bad_watch_is_refused_by_field(wired: Served, request_: TasksRequest) -> None:
    error = await refusal(wired.stub.WatchTasks(request_).read())

    assert (type(error), error.reason) == (InvalidArgument, "INVALID_FIELD")


async def test_watches_end_with_a_hint_when_the_process_stops(served: Served) -> None:
    await served.submit(spec(), submitter_id="me")
    calls = [
        served.stub.WatchEvents(EventsRequest()),
        served.stub.WatchTasks(TasksRequest(submitter_id="me")),
    ]
    for call in calls:
        assert (await call.read()).events
    await served.assembled.drain()

    for call in calls:

        async def rest(call: Any = call) -> None:
            while await asyncio.wait_for(call.read(), 10) is not grpc.aio.EOF:
                pass

        error = await refusal(rest())
        assert (type(error), error.reason) == (Unavailable, "DRAINING")


@pytest.mark.parametrize("cursor", ["", "now"])
async def test_a_watch_that_comes_after_the_drain_is_told_nothing_but_that(
    served: Served, cursor: str
) -> None:
    await served.submit(spec(), submitter_id="me")
    await served.assembled.drain()

    for call in (
        served.stub.WatchEvents(EventsRequest(cursor=cursor)),
        served.stub.WatchTasks(TasksRequest(submitter_id="me", cursor=cursor)),
    ):
        error = await refusal(asyncio.wait_for(call.read(), 10))
        assert (type(error), error.reason) == (Unavailable, "DRAINING")


@pytest.mark.parametrize("kind", ["log", "task"])
async def test_watches_have_a_limit_and_one_that_ends_makes_room(tmp_path: Path, kind: str) -> None:
    async with wire(tmp_path, **{f"{kind}_watches_max": 3}) as served:
        await served.submit(spec(), submitter_id="me")

        def watch() -> Any:
            if kind == "log":
                return served.stub.WatchEvents(EventsRequest())
            return served.stub.WatchTasks(TasksRequest(submitter_id="me"))

        calls = [watch() for _ in range(3)]
        for call in calls:
            assert (await call.read()).events
        error = await refusal(watch().read())
        assert (type(error), error.reason) == (ResourceExhausted, "TOO_MANY_WATCHES")
        assert error.retry_after_s
        calls[0].cancel()

        async def taken() -> bool:
            try:
                return bool((await watch().read()).events)
            except grpc.aio.AioRpcError:
                return False

        await eventually(taken)


def test_watchers_hear_of_the_kinds_they_follow_however_others_come_and_go() -> None:
    rig, codec, fed = Rig(), ProtoCodec(), feed.Feed(1_000_000)
    ends = feed.Subscription("client", (), frozenset({Kind.COMPLETED}), None)
    every = feed.Subscription("client", (), None, None)
    rig.credit("work")

    def publish() -> list[int]:
        events = rig.core.take(rig.now).events
        frames, lean = zip(*[codec.seal(*recorded) for recorded in events], strict=True)
        fed.publish(Commit(events, frames, lean, (), (), rig.now, rig.now))
        return [len(one.outbox) for one in (ends, every)]

    fed.subscribe(ends)
    fed.subscribe(every)
    [admitted] = rig.core.admission.submit([Draft(created())], rig.now)
    assert publish() == [0, 3], "created, queued and assigned"
    fed.unsubscribe(every)
    fed.unsubscribe(every)
    held = Lease(admitted.task_id, 1)
    rig.core.outcomes.completed(rig.router, held, "a1", b"result", None, None, rig.now)
    assert publish() == [1, 3]
