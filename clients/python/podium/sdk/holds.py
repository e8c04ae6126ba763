"""Holding tasks up, and letting them go on."""

from __future__ import annotations

from collections.abc import Sequence

from podium.sdk.bulk import Progress, ids_in, to_the_end
from podium.sdk.calls import Calls
from podium.v1 import task_pb2, task_scheduler_pb2

SERVICE = "task_scheduler"


class Holds:
    """What `Client.holds` offers.

    A paused task holds no agent: what ran is called back, and its attempt does not count as failed.
    A pause of a type or a tenant lets what runs end, and starts nothing more.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def pause(
        self,
        task_ids: Sequence[str] = (),
        *,
        filter: task_pb2.TaskFilter | None = None,
        reason: str = "",
        on_progress: Progress | None = None,
    ) -> Sequence[str]:
        """Pauses tasks by id or by filter, and returns those that are paused now.

        Raises:
            NotFound: there is no such task.
            FailedPrecondition: TASK_NOT_PAUSABLE, when only one was named.
        """
        request = task_scheduler_pb2.PauseTasksRequest(
            task_ids=task_ids, filter=filter, reason=reason
        )
        answers = await to_the_end(
            self._calls, lambda stubs: stubs.scheduler.PauseTasks, request, on_progress
        )
        return ids_in(answers)

    async def resume(
        self,
        task_ids: Sequence[str] = (),
        *,
        filter: task_pb2.TaskFilter | None = None,
        on_progress: Progress | None = None,
    ) -> Sequence[str]:
        """Lets paused tasks go on, by id or by filter, and returns those that do.

        Raises:
            NotFound: there is no such task.
            FailedPrecondition: TASK_NOT_PAUSED, when only one was named.
        """
        request = task_scheduler_pb2.ResumeTasksRequest(task_ids=task_ids, filter=filter)
        answers = await to_the_end(
            self._calls, lambda stubs: stubs.scheduler.ResumeTasks, request, on_progress
        )
        return ids_in(answers)

    async def pause_queue(self, *, task_type: str = "", tenant: str = "", reason: str = "") -> None:
        """Starts no more tasks of a type, of a tenant, or of both together, until it is resumed.

        Args:
            task_type: of this type; "" = of any.
            tenant: of this tenant; "" = of any.
            reason: why, for people.
        """
        request = task_scheduler_pb2.PauseQueueRequest(type=task_type, tenant=tenant, reason=reason)
        await self._calls.unary(SERVICE, lambda stubs: stubs.scheduler.PauseQueue, request)

    async def resume_queue(self, *, task_type: str = "", tenant: str = "") -> None:
        """Ends a pause that was begun with the same type and tenant.

        Raises:
            NotFound: PAUSE_NOT_FOUND.
        """
        request = task_scheduler_pb2.ResumeQueueRequest(type=task_type, tenant=tenant)
        await self._calls.unary(SERVICE, lambda stubs: stubs.scheduler.ResumeQueue, request)
