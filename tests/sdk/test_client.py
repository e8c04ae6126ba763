from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from podium.sdk import payloads, specs
from podium.sdk.client import Client
from podium.sdk.errors import (
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ResultMisfit,
    TaskCanceled,
    TaskFailed,
    Unavailable,
)
from podium.sdk.keys import RETRY_PREFIX
from podium.v1 import event_pb2, task_pb2
from tests.sdk.fakes import FakeScheduler, scheduler_of, serving, settings
from tests.support.ports import free_port
from tests.support.waiting import eventually

COMPLETED = task_pb2.Task.STATE_COMPLETED


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler()


@asynccontextmanager
async def connected(
    scheduler: FakeScheduler, *, patience_s: float = 5.0, port: int = 0
) -> AsyncIterator[Client]:
    async with serving(scheduler_of(scheduler), port=port) as address:
        # Inline, since the fake lives on this loop and one loop alone may do gRPC.
        client = Client(settings(task_scheduler=address), inline=True, patience_s=patience_s)
        async with client:
            yield client


async def test_a_result_arrives_as_what_its_media_type_says(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        task = await client.submit("text.summarize", {"text": "long"}, priority=7)
        await scheduler.end(task.task_id, COMPLETED)

        assert await task.result(5) == "done"

    spec = scheduler.batches[0][0]
    assert (spec.type, spec.payload.data, spec.priority) == (
        "text.summarize",
        b'{"text":"long"}',
        7,
    )
    assert spec.traceparent == task.traceparent != ""


@dataclass
class Count:
    words: int
    lines: int = 1


async def test_a_result_is_made_into_the_type_that_is_asked_for(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        task = await client.submit("text.count", "a text")
        await scheduler.end(task.task_id, COMPLETED, result=payloads.encode({"words": 3}))

        count: Count = await task.result(5, into=Count)
        numbers = await task.result(5, into=dict[str, int])
        raw = await client.handle(task.task_id).result(5, into=bytes)

    assert (count, numbers, raw) == (Count(words=3), {"words": 3}, b'{"words":3}')


async def test_a_result_of_another_type_names_every_field_at_fault(
    scheduler: FakeScheduler,
) -> None:
    async with connected(scheduler) as client:
        task = await client.submit("text.count", "a text")
        result = payloads.encode({"words": "three", "pages": 1})
        await scheduler.end(task.task_id, COMPLETED, result=result)

        with pytest.raises(ResultMisfit) as caught:
            await task.result(5, into=Count)

    assert caught.value.reason == "RESULT_MISFIT"
    assert caught.value.violations == (("pages", "is not known"), ("words", "is not an integer"))
    assert str(caught.value) == (
        "the result of task task-0 does not fit (pages: is not known; words: is not an integer)"
    )


async def test_concurrent_submits_travel_together_and_in_order(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        tasks = await asyncio.gather(*(client.submit("work", str(n)) for n in range(250)))

    assert len(scheduler.batches) == 1
    assert [spec.payload.data for spec in scheduler.batches[0]] == [b"%d" % n for n in range(250)]
    assert [task.task_id for task in tasks] == [f"task-{n}" for n in range(250)]


async def test_a_batch_has_at_most_256_tasks_and_two_mebibytes(
    scheduler: FakeScheduler,
) -> None:
    async with connected(scheduler) as client:
        await asyncio.gather(*(client.submit("work") for _ in range(2_500)))
        assert max(map(len, scheduler.batches)) == 256
        scheduler.batches.clear()
        await asyncio.gather(*(client.submit("work", bytes(250_000)) for _ in range(20)))

    assert max(map(len, scheduler.batches)) < 10


async def test_an_urgent_task_waits_for_no_batch_of_others(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        scheduler.answering.clear()
        submits = [asyncio.create_task(client.submit("work")) for _ in range(5 * 256)]
        await eventually(lambda: len(scheduler.asked) == 4)

        submits.append(asyncio.create_task(client.submit("work", priority=6)))

        await eventually(lambda: len(scheduler.asked) == 5)
        assert [spec.priority for spec in scheduler.asked[4]] == [6]
        scheduler.answering.set()
        await asyncio.gather(*submits)


async def test_an_urgent_task_waits_for_no_answer_to_one_before_it(
    scheduler: FakeScheduler,
) -> None:
    async with connected(scheduler) as client:
        scheduler.answering.clear()
        submits = []
        for count in range(1, 9):
            submits.append(asyncio.create_task(client.submit("work", priority=9)))
            await eventually(lambda count=count: len(scheduler.asked) == count)
        scheduler.answering.set()
        await asyncio.gather(*submits)


async def test_while_calls_are_unanswered_later_submits_gather(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        scheduler.answering.clear()
        submits = []
        for _ in range(4):
            submits.append(asyncio.create_task(client.submit("work")))
            await asyncio.sleep(0.01)
        submits += [asyncio.create_task(client.submit("work")) for _ in range(50)]
        await asyncio.sleep(0)
        scheduler.answering.set()
        await asyncio.gather(*submits)

    assert sorted(map(len, scheduler.batches)) == [1, 1, 1, 1, 50]


async def test_one_bad_task_fails_alone_in_a_batch_of_strangers(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        types = ["bad" if n == 13 else "work" for n in range(40)]
        answers = await asyncio.gather(
            *(client.submit(each) for each in types), return_exceptions=True
        )

    assert [n for n, answer in enumerate(answers) if isinstance(answer, Exception)] == [13]
    assert isinstance(answers[13], InvalidArgument)
    assert answers[13].reason == "INVALID_FIELD"
    assert len(scheduler.tasks) == 39


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_submit_is_repeated_while_the_scheduler_is_away_and_makes_one_task(
    scheduler: FakeScheduler, code: grpc.StatusCode
) -> None:
    scheduler.failures = [(code, "STOPPING")] * 2
    async with connected(scheduler) as client:
        task = await client.submit("work")

    assert task.task_id == "task-0"
    assert len(scheduler.tasks) == 1
    assert scheduler.batches[0][0].request_id.startswith(RETRY_PREFIX)


async def test_who_repeats_for_long_makes_keys_that_are_kept_for_long(
    scheduler: FakeScheduler,
) -> None:
    async with connected(scheduler, patience_s=1_000.0) as client:
        await client.submit("work")

    assert not scheduler.batches[0][0].request_id.startswith(RETRY_PREFIX)


async def test_an_error_carries_reason_metadata_and_message(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        with pytest.raises(NotFound, match="refused: TASK_NOT_FOUND") as caught:
            await client.get("nobody")

    assert (caught.value.reason, caught.value.metadata) == ("TASK_NOT_FOUND", {"field": "x"})


async def test_nobody_at_the_address_is_told_with_what_to_do() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with Client(settings(task_scheduler=address), inline=True, patience_s=0.1) as client:
        with pytest.raises(Unavailable) as caught:
            await client.submit("work")

    assert str(caught.value) == (
        f"Cannot reach TaskScheduler at {address}: start the suite with `make run`,"
        " or set PODIUM_TASK_SCHEDULER_ADDRESS."
    )


async def test_many_tasks_are_one_batch_of_which_all_are_accepted_or_none(
    scheduler: FakeScheduler,
) -> None:
    good = [specs.build("work", str(n), {}) for n in range(3)]
    bad = specs.build("bad", "", {})
    async with connected(scheduler) as client:
        tasks = await client.submit_many(good)
        with pytest.raises(InvalidArgument) as caught:
            await client.submit_many([*good, bad])

    assert [task.task_id for task in tasks] == ["task-0", "task-1", "task-2"]
    assert [len(batch) for batch in scheduler.batches] == [3]
    assert caught.value.metadata["submitted_count"] == "0"


async def test_more_tasks_than_a_batch_holds_are_sent_until_one_is_refused(
    scheduler: FakeScheduler,
) -> None:
    tasks = [specs.build("work", "", {}) for _ in range(3_000)]
    tasks[1_500].type = "bad"
    async with connected(scheduler) as client:
        with pytest.raises(InvalidArgument) as caught:
            await client.submit_many(tasks)

    assert [len(batch) for batch in scheduler.batches] == [1_000]
    assert caught.value.metadata["submitted_count"] == "1000"


async def test_failed_and_canceled_tasks_raise(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        failed, canceled = await asyncio.gather(client.submit("work"), client.submit("work"))
        await scheduler.end(failed.task_id, task_pb2.Task.STATE_FAILED, "NO_LUCK")
        with pytest.raises(TaskFailed, match="NO_LUCK: said why") as caught:
            await failed.result(5)
        assert caught.value.task_id == failed.task_id
        assert await canceled.cancel()
        with pytest.raises(TaskCanceled):
            await canceled.result(5)


async def test_cancel_of_an_ended_task_says_so(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        task = await client.submit("work")
        await scheduler.end(task.task_id, COMPLETED)

        assert not await task.cancel()


async def test_a_task_that_ends_before_its_submit_is_answered_is_not_missed(
    scheduler: FakeScheduler,
) -> None:
    scheduler.completing = True
    async with connected(scheduler) as client:
        await (await client.submit("work")).result(5)
        tasks = await asyncio.gather(*(client.submit("work") for _ in range(100)))

        assert [await task.result(5) for task in tasks] == ["done"] * 100


async def test_all_results_come_over_one_stream_that_resumes_where_it_broke(
    scheduler: FakeScheduler,
) -> None:
    scheduler.watch_batches_max = 1
    async with connected(scheduler) as client:
        tasks = await asyncio.gather(*(client.submit("work") for _ in range(3)))
        for task in tasks:
            await scheduler.end(task.task_id, COMPLETED)
            assert await task.result(5) == "done"

    assert [watch.cursor for watch in scheduler.watches][:3] == ["0", "1", "2"]
    assert len({watch.submitter_id for watch in scheduler.watches}) == 1


async def test_the_result_of_another_clients_task_is_asked_for(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        first = await client.submit("work", request_id="order-7")
        again = await client.submit("work", request_id="order-7")
        assert again.task_id == first.task_id
        await scheduler.end(first.task_id, COMPLETED)

        assert await again.result(5) == "done"
        assert await client.handle(first.task_id).result(5) == "done"


async def test_waiting_for_a_result_can_be_given_up_and_taken_up(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        task = await client.submit("work")
        with pytest.raises(TimeoutError):
            await task.result(0.01)
        await scheduler.end(task.task_id, COMPLETED)

        assert await task.result(5) == "done"


async def test_list_yields_all_pages_or_as_many_as_wanted(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        await asyncio.gather(*(client.submit("work") for _ in range(25)))

        assert len([task async for task in client.list()]) == 25
        assert len([task async for task in client.list(limit=12)]) == 12


async def test_a_watch_yields_each_event_once_over_broken_streams(
    scheduler: FakeScheduler,
) -> None:
    scheduler.watch_batches_max = 1
    seen: list[int] = []
    async with connected(scheduler) as client:
        task = await client.submit("work")

        async def follow() -> None:
            async for event in client.watch(task_ids=[task.task_id], cursor="", until_ended=True):
                seen.append(event.seq)

        following = asyncio.create_task(follow())
        for count in range(1, 4):
            progress = event_pb2.Event(type=event_pb2.Event.TYPE_PROGRESS, task_id=task.task_id)
            await scheduler.append(progress)
            await eventually(lambda: len(seen) == count)  # noqa: B023 - awaited in this turn
        await scheduler.end(task.task_id, COMPLETED)
        await asyncio.wait_for(following, 5)

    assert seen == [1, 2, 3, 4]
    assert len(scheduler.watches) >= 4


@pytest.mark.parametrize(
    ("payload", "options", "error"),
    [
        (bytes(262_145), {}, InvalidArgument),
        (object(), {}, InvalidArgument),
        ("x", {"priority": "high"}, InvalidArgument),
        ("x", {"priorty": 3}, TypeError),
    ],
)
async def test_what_can_be_seen_here_to_be_wrong_is_not_sent(
    scheduler: FakeScheduler, payload: object, options: dict[str, object], error: type[Exception]
) -> None:
    async with connected(scheduler) as client:
        with pytest.raises(error):
            await client.submit("work", payload, **options)  # type: ignore[arg-type]  # wrong on purpose

    assert not scheduler.batches


async def test_after_a_refusal_the_client_answers_itself_until_the_time_that_was_named(
    scheduler: FakeScheduler,
) -> None:
    async with connected(scheduler) as client:
        scheduler.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "BACKLOG_FULL")]
        with pytest.raises(ResourceExhausted) as refused:
            await client.submit("work", b"x")
        with pytest.raises(ResourceExhausted) as again:
            await client.submit("work", b"x")
        # One with a key of the caller may be there already, and asks.
        known = await client.submit("work", b"x", request_id="mine")

    assert refused.value.retry_after_s and again.value.retry_after_s
    assert again.value.retry_after_s <= refused.value.retry_after_s
    assert [spec.request_id for batch in scheduler.batches for spec in batch] == ["mine"]
    assert known.task_id
