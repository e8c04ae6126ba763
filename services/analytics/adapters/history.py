"""The log of TaskScheduler, asked for the events of one task."""

from __future__ import annotations

import grpc.aio

from podium.v1.task_scheduler_pb2 import ExplainTaskRequest
from podium.v1.task_scheduler_pb2_grpc import TaskSchedulerServiceStub
from services.analytics.adapters.legs import Legs
from services.analytics.core.trace import Span
from services.kernel.errors import NotFound, Unavailable
from services.kernel.rpc import from_rpc_error

explain_s_max = 10.0
"""A log of gigabytes is searched in that time."""


class LogHistory:
    """Reads the legs of tasks off the log. Implements `ports.LegSource`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = TaskSchedulerServiceStub(channel)

    async def of_task(self, task_id: str) -> list[Span]:
        """Return the legs of a task; none of one that is not known any more."""
        request = ExplainTaskRequest(task_id=task_id)
        try:
            explained = await self._stub.ExplainTask(request, timeout=explain_s_max)
        except grpc.aio.AioRpcError as failed:
            error = from_rpc_error(failed)
            if isinstance(error, NotFound):
                return []
            if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise Unavailable(
                    "SCHEDULER_UNREACHABLE",
                    f"TaskScheduler, which has what services did, does not answer: {error.message}",
                    retry_after_s=error.retry_after_s or 1.0,
                ) from None
            raise error from None
        legs = Legs()
        return [leg for event in explained.events for leg in legs.take(event)]
