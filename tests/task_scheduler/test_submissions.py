"""OpenSubmission: what a call of SubmitTasks does, without a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc.aio
import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Payload
from services.kernel import limits, tokens
from services.kernel.clock import SystemClock
from services.kernel.errors import PodiumError, Unauthenticated, Unavailable
from services.kernel.rpc import Context
from services.task_scheduler.__main__ import hand_over
from services.task_scheduler.servicer import submissions
from services.task_scheduler.servicer.submissions import Submissions
from tests.kernel.keys import make_key, publish, token
from tests.support.waiting import eventually
from tests.task_scheduler.serving import Served, refusal, spec, wire

pb = task_scheduler_pb2


def request(*specs: Any, number: int = 1) -> pb.OpenSubmissionRequest:
    return pb.OpenSubmissionRequest(
        submission_id=number, request=pb.SubmitTasksRequest(tasks=specs)
    )


async def answer(call: Any) -> pb.SubmissionAnswer:
    (only,) = (await asyncio.wait_for(call.read(), 10)).answers
    return cast(pb.SubmissionAnswer, only)


async def ended(call: Any) -> PodiumError:
    async def to_the_end() -> None:
        while await asyncio.wait_for(call.read(), 10) is not grpc.aio.EOF:
            pass

    return await refusal(to_the_end())


async def test_each_submission_is_answered_as_the_call_is(served: Served) -> None:
    call = served.stub.OpenSubmission()
    await call.write(request(spec(request_id="a"), spec(request_id="b"), number=7))
    first = await answer(call)
    await call.write(request(spec(request_id="c"), spec(request_id="b"), number=8))
    second = await answer(call)
    await call.done_writing()

    assert await call.read() is grpc.aio.EOF
    assert (first.submission_id, second.submission_id) == (7, 8)
    assert list(second.accepted.duplicate_indexes) == [1]
    assert second.accepted.task_ids[1] == first.accepted.task_ids[1]
    again = await served.submit(*[spec(request_id=name) for name in "abc"])
    assert again == [*first.accepted.task_ids, second.accepted.task_ids[0]]
    assert (await served.get(again[0])).spec.payload.data == b"data"
    events = served.stub.WatchEvents(pb.WatchEventsRequest(cursor=second.accepted.cursor))
    assert {event.task_id for event in (await events.read()).events} >= {again[2]}
    events.cancel()


async def test_a_message_that_is_handed_over_in_process_stays_the_callers(served: Served) -> None:
    mine = request(spec(request_id="a"))
    before = mine.SerializeToString()
    call = served.stub.OpenSubmission()

    await call.write(mine)

    assert (await answer(call)).HasField("accepted")
    assert mine.SerializeToString() == before


@pytest.mark.parametrize(
    "specs",
    [
        [spec(priority=-5), spec(priority=11)],
        [spec(payload=Payload(data=bytes(256 * 1024 + 1)))],
        [spec(request_id="known", priority=9)],
        [spec(), spec()],
        [spec(depends_on=["00-000000000000-0000000000"])],
        [spec(tenant="other", parent_task_id="00-000000000000-0000000000")],
        [],
    ],
)
async def test_a_refusal_says_what_the_status_of_a_call_says(
    tmp_path: Path, specs: list[Any]
) -> None:
    async with wire(tmp_path, open_tasks_max=2) as served:
        await served.submit(spec(request_id="known"))
        told = await refusal(served.submit(*specs))
        call = served.stub.OpenSubmission()
        await call.write(request(*specs))
        refused = (await answer(call)).refused
        # The others go on.
        await call.write(request(spec(request_id="known")))
        assert (await answer(call)).HasField("accepted")

    retry_after_s = None
    if refused.HasField("retry_after"):
        retry_after_s = refused.retry_after.ToNanoseconds() / 1e9
    violations = tuple((one.field, one.description) for one in refused.violations)
    assert (refused.code, refused.reason, refused.message) == (told.code, told.reason, told.message)
    assert (dict(refused.metadata), violations) == (told.metadata, told.violations)
    assert retry_after_s == told.retry_after_s


async def test_bytes_that_cannot_be_decoded_end_the_stream(wired: Served) -> None:
    method = wired.channel.stream_stream(submissions.METHOD)
    call = method()
    await call.write(b"\xff")

    assert (await ended(call)).reason == "MALFORMED_REQUEST"
    assert await wired.submit(spec())


async def test_a_stream_ends_when_the_scheduler_stops(wired: Served) -> None:
    call = wired.stub.OpenSubmission()
    await call.write(request(spec()))
    assert (await answer(call)).HasField("accepted")

    await wired.assembled.drain()

    error = await ended(call)
    assert (type(error), error.reason) == (Unavailable, "DRAINING")
    later = wired.stub.OpenSubmission()
    await later.write(request(spec()))
    assert (await answer(later)).refused.reason == "DRAINING"
    later.cancel()


async def test_each_submission_is_of_whoever_opened_the_stream_and_may_still_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "keys_check_s", 0.0)
    key, now_s = make_key(), SystemClock().now().wall_ms // 1_000
    publish(tmp_path / "keys", "k1", key)

    def shown(*roles: str) -> Any:
        text = token(key, roles=roles, capabilities=None, iat=now_s, exp=now_s + 600)
        return (("authorization", f"Bearer {text}"),)

    async with wire(tmp_path, auth="jwt", auth_keys_dir=tmp_path / "keys") as served:
        reader = served.stub.OpenSubmission(metadata=shown("reader"))
        assert (await ended(reader)).code == "PERMISSION_DENIED"
        call = served.stub.OpenSubmission(metadata=shown("submitter", "reader"))
        await call.write(request(spec()))
        (task_id,) = (await answer(call)).accepted.task_ids
        asked = pb.GetTaskRequest(task_id=task_id)
        found = await served.stub.GetTask(asked, metadata=shown("reader"))
        assert found.task.spec.tenant == "acme"
        await call.write(request(spec(tenant="other")))
        assert (await answer(call)).refused.reason == "ROLE_MISSING"

        (tmp_path / "keys/k1.pem").unlink()
        await call.write(request(spec()))

        assert (await ended(call)).reason == "INVALID_TOKEN"


class Desk:
    """What submissions wait for, and streams of them without a wire."""

    def __init__(self) -> None:
        self.asked = 0
        self.canceled = 0
        self.durable = asyncio.Event()
        self.submissions = Submissions(self._submit)
        self.requests: asyncio.Queue[pb.OpenSubmissionRequest | None] = asyncio.Queue()
        self.messages: list[list[int]] = []
        """Submissions that were answered, message by message."""
        self.refusals: list[str] = []

    async def _submit(
        self, request: pb.SubmitTasksRequest, context: Context
    ) -> pb.SubmitTasksResponse:
        self.asked += 1
        try:
            await self.durable.wait()
        except asyncio.CancelledError:
            self.canceled += 1
            raise
        if request.submitter_id:
            raise ZeroDivisionError
        return pb.SubmitTasksResponse()

    def say(self, *numbers: int, submitter_id: str = "") -> None:
        for number in numbers:
            one = request(number=number)
            one.request.submitter_id = submitter_id
            self.requests.put_nowait(one)

    async def _requests(self) -> AsyncIterator[pb.OpenSubmissionRequest]:
        while (one := await self.requests.get()) is not None:
            yield one

    async def serve(self) -> None:
        async for message in self.submissions.serve(self._requests(), cast(Context, None)):
            self.messages.append([one.submission_id for one in message.answers])
            self.refusals += [one.refused.reason for one in message.answers if one.refused.reason]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    yield Desk()


async def test_answers_that_are_ready_together_leave_in_one_message(desk: Desk) -> None:
    serving = asyncio.create_task(desk.serve())
    desk.say(1, 2, 3)
    await eventually(lambda: desk.asked == 3)
    assert not desk.messages

    desk.durable.set()
    desk.requests.put_nowait(None)
    await serving

    assert desk.messages == [[1, 2, 3]]


async def test_of_many_submissions_64_are_under_way_at_a_time(desk: Desk) -> None:
    serving = asyncio.create_task(desk.serve())
    desk.say(*range(200))
    await eventually(lambda: desk.asked == 64)
    for _ in range(10):
        await asyncio.sleep(0)
    assert desk.asked == 64

    desk.durable.set()
    desk.requests.put_nowait(None)
    await serving

    assert [number for message in desk.messages for number in message] == list(range(200))


async def test_what_was_read_is_answered_before_a_stream_ends(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = Unauthenticated("INVALID_TOKEN", "invalid token")
    checks = iter([None, expired])

    def recheck() -> None:
        if error := next(checks):
            raise error

    monkeypatch.setattr(submissions, "current_recheck", lambda: recheck)
    serving = asyncio.create_task(desk.serve())
    desk.say(1, 2)
    await eventually(lambda: desk.asked == 1)
    desk.durable.set()

    with pytest.raises(Unauthenticated):
        await serving
    assert (desk.messages, desk.asked) == ([[1]], 1)


async def test_a_bug_is_the_refusal_of_one_and_shows_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.durable.set()
    desk.say(1, submitter_id="bug")
    desk.say(2)
    desk.requests.put_nowait(None)

    await desk.serve()

    assert desk.messages == [[1, 2]]
    assert desk.refusals == ["INTERNAL"]
    assert "ZeroDivisionError" in caplog.text


async def test_who_goes_gives_up_what_is_not_answered(desk: Desk) -> None:
    serving = asyncio.create_task(desk.serve())
    desk.say(1, 2)
    await eventually(lambda: desk.asked == 2)

    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    assert desk.canceled == 2


async def test_who_goes_on_submitting_keeps_no_stream_open(desk: Desk) -> None:
    serving = asyncio.create_task(desk.serve())
    desk.say(1, 2)
    await eventually(lambda: desk.asked == 2)

    desk.submissions.close()
    desk.say(3)
    for _ in range(10):
        await asyncio.sleep(0)
    desk.durable.set()

    with pytest.raises(Unavailable):
        await serving
    assert (desk.messages, desk.asked) == ([[1, 2]], 2)


async def test_a_submission_takes_no_longer_than_a_call_and_then_makes_room(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "unary_s_max", 0.01)
    serving = asyncio.create_task(desk.serve())
    desk.say(*range(65))
    await eventually(lambda: desk.asked == 65)
    desk.requests.put_nowait(None)

    await serving

    assert desk.refusals == ["NO_DEADLINE"] * 65


async def test_a_submission_whose_way_to_another_scheduler_is_lost_is_refused_for_now() -> None:
    async def lost(request: pb.SubmitTasksRequest, context: Context) -> pb.SubmitTasksResponse:
        raise asyncio.CancelledError

    async def requests() -> AsyncIterator[pb.OpenSubmissionRequest]:
        for number in range(2 * submissions.UNDER_WAY_LEN_MAX):
            yield request(number=number)

    context = cast(Context, None)
    answers = [
        answer
        async for response in Submissions(lost).serve(requests(), context)
        for answer in response.answers
    ]

    assert len(answers) == 2 * submissions.UNDER_WAY_LEN_MAX, "and none keeps its room"
    assert {answer.refused.code for answer in answers} == {"UNAVAILABLE"}


async def test_who_submits_is_told_also_where_the_hand_over_to_others_fails() -> None:
    closed = []

    async def fails() -> None:
        raise TimeoutError

    ownership: Any = SimpleNamespace(drain=fails)
    front: Any = SimpleNamespace(submissions=SimpleNamespace(close=lambda: closed.append(True)))

    with pytest.raises(TimeoutError):
        await hand_over(ownership, front)

    assert closed
