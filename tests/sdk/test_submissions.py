"""Submits over a stream: what it changes, which is nothing that a program sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from podium.sdk import submissions
from podium.sdk.client import Client
from podium.sdk.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from tests.sdk.fakes import FakeScheduler, scheduler_of, serving, settings
from tests.support.waiting import eventually

StatusCode = grpc.StatusCode


@pytest.fixture
async def scheduler() -> FakeScheduler:
    return FakeScheduler()


@asynccontextmanager
async def connected(scheduler: FakeScheduler, *, patience_s: float = 5.0) -> AsyncIterator[Client]:
    async with serving(scheduler_of(scheduler)) as address:
        client = Client(settings(task_scheduler=address), inline=True, patience_s=patience_s)
        async with client:
            yield client


async def test_batches_share_one_stream_and_need_no_calls(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        for _ in range(3):
            await asyncio.gather(*(client.submit("work") for _ in range(10)))

    assert [[len(one.tasks) for one in stream] for stream in scheduler.submissions] == [[10] * 3]
    assert not scheduler.called


async def test_urgent_tasks_have_a_stream_of_their_own(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        await client.submit("work")
        await client.submit("work", priority=9)

    of_each = [[one.tasks[0].priority for one in stream] for stream in scheduler.submissions]
    assert of_each == [[0], [9]]


async def test_a_refusal_is_the_error_of_a_call(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        with pytest.raises(InvalidArgument, match="refused: INVALID_FIELD") as invalid:
            await client.submit("bad")
        scheduler.failures = [(StatusCode.RESOURCE_EXHAUSTED, "TENANT_RATE")]
        with pytest.raises(ResourceExhausted) as full:
            await client.submit("work")

    assert (invalid.value.reason, invalid.value.metadata) == ("INVALID_FIELD", {"field": "x"})
    assert (full.value.reason, full.value.retry_after_s) == ("TENANT_RATE", 30.0)
    assert (len(scheduler.submissions), scheduler.called) == (1, [])


@pytest.mark.parametrize(
    "end",
    [None, (StatusCode.UNAVAILABLE, "DRAINING"), (StatusCode.CANCELLED, "STOPPING")],
)
async def test_what_is_unanswered_when_a_stream_is_lost_goes_on_the_next_one(
    scheduler: FakeScheduler, end: tuple[StatusCode, str] | None
) -> None:
    scheduler.stream_ends = [end]
    async with connected(scheduler) as client:
        task = await client.submit("work")

    first, second = scheduler.submissions
    assert first[0].tasks[0].request_id == second[0].tasks[0].request_id != ""
    assert (list(scheduler.tasks), scheduler.called) == ([task.task_id], [])


async def test_a_stream_that_is_lost_again_and_again_is_told_in_the_end(
    scheduler: FakeScheduler,
) -> None:
    scheduler.stream_ends = [(StatusCode.UNAVAILABLE, "DRAINING")] * 100
    async with connected(scheduler, patience_s=0.2) as client:
        with pytest.raises(Unavailable) as caught:
            await client.submit("work")

    assert caught.value.reason == "DRAINING"


@pytest.mark.parametrize("code", [StatusCode.UNAUTHENTICATED, StatusCode.INTERNAL])
async def test_an_error_that_ends_a_stream_is_no_answer_so_calls_ask_for_one(
    scheduler: FakeScheduler, code: StatusCode
) -> None:
    scheduler.stream_ends = [(code, "INVALID_TOKEN")]
    async with connected(scheduler) as client:
        await client.submit("work")
        await client.submit("work")

    assert len(scheduler.called) == 1, "the second goes on a new stream"
    assert [len(stream) for stream in scheduler.submissions] == [1, 1]
    assert len(scheduler.tasks) == 2


async def test_an_older_scheduler_is_asked_by_calls(scheduler: FakeScheduler) -> None:
    scheduler.stream_ends = [(StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")]
    async with connected(scheduler) as client:
        await client.submit("work")
        await client.submit("work")

    assert (len(scheduler.called), len(scheduler.submissions)) == (2, 1)


async def test_whether_it_is_still_an_older_one_is_looked_at_again(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "BY_CALL_S", 0.0)
    scheduler.stream_ends = [(StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")]
    async with connected(scheduler) as client:
        await client.submit("work")
        await client.submit("work")

    assert (len(scheduler.called), len(scheduler.submissions)) == (1, 2)


async def test_who_gets_no_answer_in_time_is_told_as_after_a_call(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(scheduler) as client:
        await client.submit("work")
        monkeypatch.setattr(submissions, "CALL_S_MAX", 0.05)
        scheduler.answering.clear()
        with pytest.raises(DeadlineExceeded, match="Deadline Exceeded") as caught:
            await client.submit("work")
        scheduler.answering.set()
        monkeypatch.undo()
        # An answer that comes too late is nobody's.
        await client.submit("work")

    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert [len(stream) for stream in scheduler.submissions] == [3]
    assert not scheduler.called


async def test_a_stream_by_which_nothing_ever_comes_is_given_up_for_calls(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "CALL_S_MAX", 0.05)
    async with connected(scheduler) as client:
        scheduler.answering.clear()
        with pytest.raises(DeadlineExceeded):
            await client.submit("work")
        scheduler.answering.set()
        await client.submit("work")

    assert (len(scheduler.called), len(scheduler.submissions)) == (1, 1)


async def test_a_client_that_closes_gives_up_what_is_unanswered(scheduler: FakeScheduler) -> None:
    async with connected(scheduler) as client:
        scheduler.answering.clear()
        submit = asyncio.create_task(client.submit("work"))
        await eventually(lambda: len(scheduler.asked) == 1)

    with pytest.raises(asyncio.CancelledError):
        await submit
