"""A standing stream for submits: a message on it costs half of what a call does."""

from __future__ import annotations

import asyncio
import time

import grpc.aio

from podium.sdk.calls import CALL_S_MAX, Calls, Patience
from podium.sdk.errors import (
    DeadlineExceeded,
    PodiumError,
    Unavailable,
    Violation,
    from_rpc_error,
    is_transient,
    kind_of,
)
from podium.v1 import task_scheduler_pb2
from podium.v1.task_scheduler_pb2 import SubmitTasksRequest, SubmitTasksResponse

Call = grpc.aio.StreamStreamCall[
    task_scheduler_pb2.OpenSubmissionRequest, task_scheduler_pb2.OpenSubmissionResponse
]
# A scheduler that does not know the stream may have been replaced by one that does.
BY_CALL_S = 60.0


class Submissions:
    """Submits over a stream, which is opened when it is first used and whenever it was lost.

    What it cannot do it does by calls: where the scheduler does not know the stream, and for what
    was on a stream that ended with an error, which says nothing of one submission.

    Args:
        calls: how to call.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._stream: _Stream | None = None
        self._by_call_until_s = 0.0

    async def submit(self, request: SubmitTasksRequest) -> SubmitTasksResponse:
        """Submits tasks that have request ids, and returns when they are durable.

        Raises:
            PodiumError: as a call of SubmitTasks, which is tried again like this.
        """
        return await self._calls.wire.run(self._submit(request))

    async def close(self) -> None:
        """Ends the stream."""
        await self._calls.wire.run(self._drop())

    async def _submit(self, request: SubmitTasksRequest) -> SubmitTasksResponse:
        patience = Patience(self._calls.patience_s)
        while time.monotonic() >= self._by_call_until_s:
            if self._stream is None or self._stream.ended is not None:
                scheduler = self._calls.stubs.scheduler
                self._stream = _Stream(scheduler.OpenSubmission(metadata=self._calls.metadata))
            stream = self._stream
            failure: PodiumError
            try:
                async with asyncio.timeout(CALL_S_MAX):
                    return await stream.ask(request)
            except TimeoutError:
                if not stream.heard:
                    # Nothing has ever come by it, as behind a proxy that passes on whole calls.
                    self._by_call_until_s = time.monotonic() + BY_CALL_S
                    await stream.close()
                raise DeadlineExceeded("DEADLINE_EXCEEDED", "Deadline Exceeded") from None
            except Unavailable as refused:
                failure = refused
            except _Ended as ended:
                peer = self._calls.peer("task_scheduler")
                if ended.error is None:
                    # In order, for example to drain.
                    failure = peer.unreachable()
                elif is_transient(ended.error):
                    failure = from_rpc_error(ended.error, peer)
                else:
                    if ended.error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        self._by_call_until_s = time.monotonic() + BY_CALL_S
                    break
            await patience.wait(failure)
        return await self._calls.unary_here(
            "task_scheduler", lambda stubs: stubs.scheduler.SubmitTasks, request
        )

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()


class _Ended(Exception):
    """The stream ended before it answered.

    Args:
        error: why; None when it was in order.
    """

    def __init__(self, error: grpc.aio.AioRpcError | None) -> None:
        super().__init__()
        self.error = error


class _Stream:
    """One stream, and what is unanswered on it."""

    def __init__(self, call: Call) -> None:
        self.ended: _Ended | None = None
        # Whether any answer has come.
        self.heard = False
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._last_id = 0
        self._unanswered: dict[int, asyncio.Future[SubmitTasksResponse]] = {}
        self._outgoing: asyncio.Queue[task_scheduler_pb2.OpenSubmissionRequest] = asyncio.Queue()
        self._work = [self._loop.create_task(each) for each in (self._read(), self._write())]

    async def ask(self, request: SubmitTasksRequest) -> SubmitTasksResponse:
        self._last_id += 1
        submission_id = self._last_id
        future: asyncio.Future[SubmitTasksResponse] = self._loop.create_future()
        self._unanswered[submission_id] = future
        self._outgoing.put_nowait(
            task_scheduler_pb2.OpenSubmissionRequest(submission_id=submission_id, request=request)
        )
        try:
            return await future
        finally:
            self._unanswered.pop(submission_id, None)

    async def close(self) -> None:
        for task in self._work:
            task.cancel()
        self._call.cancel()
        await asyncio.wait(self._work)

    async def _write(self) -> None:
        try:
            while True:
                await self._call.write(await self._outgoing.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader is told why

    async def _read(self) -> None:
        error: grpc.aio.AioRpcError | None = None
        try:
            while isinstance(
                response := await self._call.read(), task_scheduler_pb2.OpenSubmissionResponse
            ):
                self.heard = True
                for answer in response.answers:
                    self._settle(answer)
        except grpc.aio.AioRpcError as failed:
            error = failed
        finally:
            self.ended = _Ended(error)
            self._work[1].cancel()
            for future in self._unanswered.values():
                if not future.done():
                    future.set_exception(_Ended(error))

    def _settle(self, answer: task_scheduler_pb2.SubmissionAnswer) -> None:
        future = self._unanswered.get(answer.submission_id)
        if future is None or future.done():
            return
        if answer.HasField("accepted"):
            future.set_result(answer.accepted)
        else:
            future.set_exception(_error(answer.refused))


def _error(refusal: task_scheduler_pb2.SubmissionRefusal) -> PodiumError:
    retry_after_s = None
    if refusal.HasField("retry_after"):
        retry_after_s = refusal.retry_after.seconds + refusal.retry_after.nanos / 1e9
    # As `is_transient` has it: whoever answered stopped with the submission under way.
    kind = Unavailable if refusal.code == "CANCELLED" else kind_of(refusal.code)
    return kind(
        refusal.reason,
        refusal.message or refusal.reason,
        metadata=dict(refusal.metadata),
        violations=[Violation(one.field, one.description) for one in refusal.violations],
        retry_after_s=retry_after_s,
    )
