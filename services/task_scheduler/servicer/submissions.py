"""Streams of submissions: each is answered as a call of SubmitTasks would be, without a call.

A call costs gRPC twice what a message does, and some five turns of the loop to begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from podium.v1 import task_scheduler_pb2
from services.kernel import limits
from services.kernel.auth import current_recheck
from services.kernel.coalesce import Outbox
from services.kernel.errors import PodiumError, Unavailable
from services.kernel.rpc import Context, refusal_of, within

pb = task_scheduler_pb2
METHOD = "/podium.v1.TaskSchedulerService/OpenSubmission"
UNDER_WAY_LEN_MAX = 64
"""Submissions of a stream that were read and whose answers have not left."""
RETRY_AFTER_S = 0.5

Submit = Callable[
    [task_scheduler_pb2.SubmitTasksRequest, Context],
    Awaitable[task_scheduler_pb2.SubmitTasksResponse],
]


class Submissions:
    """All streams of a servicer.

    Args:
        submit: Answers one submission; raises what it is refused for.
    """

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._streams: set[_Stream] = set()

    def close(self) -> None:
        """End all streams once what was read has been answered: the process stops."""
        for stream in self._streams:
            stream.end(
                Unavailable(
                    "DRAINING",
                    "The scheduler is stopping: come back.",
                    retry_after_s=RETRY_AFTER_S,
                )
            )

    async def serve(
        self, requests: AsyncIterator[pb.OpenSubmissionRequest], context: Context
    ) -> AsyncGenerator[pb.OpenSubmissionResponse, None]:
        """Serve one stream until the client has what it asked for, or goes."""
        stream = _Stream()
        self._streams.add(stream)
        reading = asyncio.create_task(self._read(requests, stream, context))
        try:
            async for answers in stream.outbox.batches():
                yield pb.OpenSubmissionResponse(answers=answers)
                for _ in answers:
                    stream.room.release()
            if stream.error is not None:
                raise stream.error
        finally:
            self._streams.discard(stream)
            work = [reading, *stream.unanswered]
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _read(
        self, requests: AsyncIterator[pb.OpenSubmissionRequest], stream: _Stream, context: Context
    ) -> None:
        recheck = current_recheck()
        error: Exception | None = None
        try:
            async for request in requests:
                if recheck is not None:
                    # As each call would be.
                    recheck()
                # Not reading is what slows a client down.
                await stream.room.acquire()
                if stream.ending:
                    # It was not read in time: who goes on asking must not keep the stream open.
                    break
                task = asyncio.create_task(self._answer(request, stream, context))
                stream.unanswered.add(task)
                task.add_done_callback(stream.answered)
        except Exception as fault:
            error = fault
        finally:
            stream.end(error)

    async def _answer(
        self, request: pb.OpenSubmissionRequest, stream: _Stream, context: Context
    ) -> None:
        answer = pb.SubmissionAnswer(submission_id=request.submission_id)
        try:
            # What is never answered would hold its room on the stream for ever.
            submitting = self._submit(request.request, context)
            answer.accepted.CopyFrom(await within(limits.unary_s_max, submitting))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this stream: the one to another scheduler by which it was passed on.
            answer.refused.CopyFrom(_refusal(_gone()))
        except Exception as error:
            answer.refused.CopyFrom(_refusal(refusal_of(METHOD, error)))
        # Those of one commit are here in one turn of the loop, and leave in one message.
        stream.outbox.offer(answer)


class _Stream:
    """What is under way on one stream."""

    __slots__ = ("ending", "error", "outbox", "room", "unanswered")

    def __init__(self) -> None:
        self.outbox: Outbox[pb.SubmissionAnswer] = Outbox(linger_s=0.0)
        self.room = asyncio.Semaphore(UNDER_WAY_LEN_MAX)
        self.unanswered: set[asyncio.Task[None]] = set()
        self.error: Exception | None = None
        self.ending = False

    def end(self, error: Exception | None) -> None:
        """End the stream once what was read has been answered."""
        self.error = self.error or error
        self.ending = True
        self._close()

    def answered(self, task: asyncio.Task[None]) -> None:
        """Note that a submission has its answer."""
        self.unanswered.discard(task)
        self._close()

    def _close(self) -> None:
        if self.ending and not self.unanswered:
            self.outbox.close()


def _gone() -> Unavailable:
    return Unavailable(
        "STARTING",
        "The scheduler that this was passed on to is gone, and another one takes over: try again.",
        retry_after_s=RETRY_AFTER_S,
    )


def _refusal(error: PodiumError) -> pb.SubmissionRefusal:
    refusal = pb.SubmissionRefusal(
        code=error.code,
        reason=error.reason,
        message=error.message[: limits.text_len_max],
        metadata=error.metadata,
        violations=[
            pb.SubmissionViolation(field=one.field[:128], description=one.description[:256])
            for one in error.violations[: limits.violations_len_max]
        ],
    )
    if error.retry_after_s is not None:
        refusal.retry_after.FromNanoseconds(round(error.retry_after_s * 1e9))
    return refusal
