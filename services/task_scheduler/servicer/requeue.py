"""The RPC that revives dead letters."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import task_pb2, task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel import limits
from services.kernel.errors import InvalidArgument, PodiumError
from services.kernel.rpc import Context
from services.kernel.rules import Checker
from services.task_scheduler.core import catalog
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Desk
from services.task_scheduler.servicer.choice import Choice, in_state
from services.task_scheduler.servicer.holds import wrong_state
from services.task_scheduler.servicer.times import check_time

Response = task_scheduler_pb2.RequeueTasksResponse


class Requeueing(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Dead letters to the core, and what is durable back."""

    _desk: Desk
    _choice: Choice

    async def RequeueTasks(
        self, request: task_scheduler_pb2.RequeueTasksRequest, context: Context
    ) -> Response:
        """Revive dead letters."""
        desk = self._desk
        desk.check(submitting=True)
        payload = payload_bytes(request.payload) if request.HasField("payload") else None
        one = len(request.task_ids) == 1
        checker = Checker()
        deadline_ms = 0
        if request.HasField("deadline"):
            deadline_ms = _deadline_ms(checker, request.deadline, desk.now().wall_ms)
        checker.require("payload", payload is None or one, "is allowed with exactly one id")
        checker.done()
        refused: list[PodiumError] = []

        def requeue(task: Task) -> bool:
            try:
                return desk.core.control.requeue(
                    task,
                    payload,
                    desk.now(),
                    deadline_ms=deadline_ms,
                    ignore_dependencies=request.ignore_dependencies,
                )
            except PodiumError as error:
                refused.append(error)
                return False

        done = await self._choice.each(
            request, request.HasField("filter"), in_state(State.FAILED), requeue, catalog.dead_page
        )
        desk.wake()
        await desk.settled()
        if one and not done.task_ids:
            raise (
                refused[0]
                if refused
                else wrong_state("TASK_NOT_DEAD", done.named[0], "is no dead letter")
            )
        response = Response(task_ids=done.task_ids, next_page_token=done.next_page_token)
        _tell(response, refused)
        return response


def _deadline_ms(checker: Checker, deadline: Timestamp, now_ms: int) -> int:
    found_ms = check_time(checker, "deadline", deadline, now_ms, limits.deadline_s_max)
    if found_ms is not None:
        checker.require("deadline", found_ms > now_ms, "must lie ahead")
    return found_ms or 0


def _tell(response: Response, refused: list[PodiumError]) -> None:
    rows: dict[str, task_scheduler_pb2.RequeueRefusal] = {}
    for error in refused:
        row = rows.get(error.reason)
        if row is None:
            row = rows[error.reason] = response.refusals.add(
                reason=error.reason, message=error.message
            )
            if error.retry_after_s is not None:
                row.retry_after.FromMilliseconds(round(error.retry_after_s * 1000))
        row.count += 1


def payload_bytes(message: task_pb2.Payload) -> bytes:
    """Return a payload as the core keeps it.

    Raises:
        InvalidArgument: PAYLOAD_TOO_LARGE or INVALID_FIELD.
    """
    if len(message.data) > limits.payload_bytes_max:
        raise InvalidArgument(
            "PAYLOAD_TOO_LARGE",
            f"The payload has {len(message.data)} bytes, at most {limits.payload_bytes_max} "
            "are taken: store it elsewhere and pass a reference.",
            metadata={"payload_bytes_max": str(limits.payload_bytes_max)},
        )
    checker = Checker()
    checker.text("content_type", message.content_type, limits.name_len_max)
    checker.done()
    return message.SerializeToString()
