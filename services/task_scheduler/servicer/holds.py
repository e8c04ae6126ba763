"""The RPCs that hold tasks up and let them go on."""

from __future__ import annotations

from podium.v1 import task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel.errors import FailedPrecondition, PodiumError
from services.kernel.rpc import Context
from services.kernel.rules import Checker
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import Task
from services.task_scheduler.ports import Desk
from services.task_scheduler.servicer.choice import Choice, in_state, pausable

REASON_LEN_MAX = 1_024


class Holding(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Pauses to the core, and what is durable back."""

    _desk: Desk
    _choice: Choice

    async def PauseTasks(
        self, request: task_scheduler_pb2.PauseTasksRequest, context: Context
    ) -> task_scheduler_pb2.PauseTasksResponse:
        """Pause tasks."""
        self._desk.check()
        _check_reason(request.reason)
        desk, reason = self._desk, request.reason or "Paused by request."
        done = await self._choice.each(
            request,
            request.HasField("filter"),
            pausable,
            lambda task: desk.core.control.pause(task, reason, desk.now()),
        )
        refused = None
        if not done.task_ids and len(request.task_ids) == 1:
            refused = wrong_state("TASK_NOT_PAUSABLE", done.named[0], "cannot be paused")
        await self._durable(refused)
        return task_scheduler_pb2.PauseTasksResponse(
            task_ids=done.task_ids, next_page_token=done.next_page_token
        )

    async def ResumeTasks(
        self, request: task_scheduler_pb2.ResumeTasksRequest, context: Context
    ) -> task_scheduler_pb2.ResumeTasksResponse:
        """Let paused tasks go on."""
        self._desk.check()
        desk = self._desk
        done = await self._choice.each(
            request,
            request.HasField("filter"),
            in_state(State.PAUSED),
            lambda task: desk.core.control.resume(task, desk.now()),
        )
        refused = None
        if not done.task_ids and len(request.task_ids) == 1:
            refused = wrong_state("TASK_NOT_PAUSED", done.named[0], "is not paused")
        await self._durable(refused)
        return task_scheduler_pb2.ResumeTasksResponse(
            task_ids=done.task_ids, next_page_token=done.next_page_token
        )

    async def PauseQueue(
        self, request: task_scheduler_pb2.PauseQueueRequest, context: Context
    ) -> task_scheduler_pb2.PauseQueueResponse:
        """Pause a type of tasks, a tenant, or both."""
        self._desk.check()
        _check_reason(request.reason)
        _check_scope(request.tenant, request.type)
        control = self._desk.core.control
        control.pause_queue(request.tenant, request.type, request.reason, self._desk.now())
        await self._durable(None)
        return task_scheduler_pb2.PauseQueueResponse()

    async def ResumeQueue(
        self, request: task_scheduler_pb2.ResumeQueueRequest, context: Context
    ) -> task_scheduler_pb2.ResumeQueueResponse:
        """End such a pause."""
        self._desk.check()
        _check_scope(request.tenant, request.type)
        refused: PodiumError | None = None
        try:
            control = self._desk.core.control
            control.resume_queue(request.tenant, request.type, self._desk.now())
        except PodiumError as error:
            refused = error
        await self._durable(refused)
        return task_scheduler_pb2.ResumeQueueResponse()

    async def _durable(self, refused: PodiumError | None) -> None:
        """Return when what was done is durable; then raise what it was refused for."""
        self._desk.wake()
        await self._desk.settled()
        if refused is not None:
            raise refused


def wrong_state(reason: str, task: Task, what: str) -> FailedPrecondition:
    """Return the error for a task whose state does not allow what is asked for."""
    return FailedPrecondition(
        reason,
        f"Task {task.task_id} {what}: it is {task.state.name}.",
        metadata={"task_id": task.task_id, "state": task.state.name},
    )


def _check_reason(reason: str) -> None:
    checker = Checker()
    checker.text("reason", reason, REASON_LEN_MAX)
    checker.done()


def _check_scope(tenant: str, task_type: str) -> None:
    checker = Checker()
    checker.require("type", bool(tenant or task_type), "or tenant must be given")
    checker.key("tenant", tenant, optional=True)
    if task_type:
        checker.capability("type", task_type)
    checker.done()
