"""The RPCs about schedules."""

from __future__ import annotations

from podium.v1 import schedule_pb2, task_scheduler_pb2, task_scheduler_pb2_grpc
from services.kernel import limits
from services.kernel.auth import current_principal
from services.kernel.errors import NotFound, PodiumError
from services.kernel.pages import decode_token, encode_token, page_size
from services.kernel.rpc import Context
from services.kernel.rules import Checker
from services.task_scheduler.core.recurrence import Recurrence
from services.task_scheduler.core.schedule import Schedule
from services.task_scheduler.ports import Codec, Desk
from services.task_scheduler.servicer.choice import only_tenant
from services.task_scheduler.servicer.drafts import Drafter
from services.task_scheduler.servicer.plans import Planner, schedule_message


class Scheduling(task_scheduler_pb2_grpc.TaskSchedulerServiceServicer):
    """Schedules to the core, and what is durable back."""

    _desk: Desk
    _codec: Codec
    _drafter: Drafter
    _planner: Planner
    _key: bytes

    async def CreateSchedule(
        self, request: task_scheduler_pb2.CreateScheduleRequest, context: Context
    ) -> task_scheduler_pb2.CreateScheduleResponse:
        """Make a schedule."""
        self._desk.check(submitting=True)
        now, principal = self._desk.now(), current_principal()
        asked = schedule_pb2.Schedule()
        asked.CopyFrom(request.schedule)
        plan = self._planner.plan(asked, principal, now.wall_ms)
        try:
            schedule = self._recurrence.create(plan.task.tenant, plan, principal.subject, now)
        except PodiumError:
            # What it is refused for may itself not be durable yet.
            await self._desk.settled()
            raise
        message = self._message(schedule)
        await self._told()
        return task_scheduler_pb2.CreateScheduleResponse(schedule=message)

    async def GetSchedule(
        self, request: task_scheduler_pb2.GetScheduleRequest, context: Context
    ) -> task_scheduler_pb2.GetScheduleResponse:
        """Return a schedule."""
        self._desk.check()
        message = self._message(self._found(request.schedule_id, request.tenant))
        await self._desk.settled()
        return task_scheduler_pb2.GetScheduleResponse(schedule=message)

    async def ListSchedules(
        self, request: task_scheduler_pb2.ListSchedulesRequest, context: Context
    ) -> task_scheduler_pb2.ListSchedulesResponse:
        """Return a page of schedules."""
        self._desk.check()
        checker = Checker()
        checker.key("tenant", request.tenant, optional=True)
        checker.done()
        size, tenant = page_size(request.page_size), only_tenant()
        arguments = f"{request.tenant}\0{current_principal().subject}".encode()
        after = decode_token(request.page_token, arguments, self._key)
        keys = sorted(
            schedule.key
            for schedule in self._desk.core.book.schedules
            if request.tenant in ("", schedule.tenant) and tenant in (None, schedule.tenant)
        )
        # As pairs, as they are sorted: joined, a slash would count as part of the names.
        behind = tuple(after.split("/"))
        left = [key for key in keys if key > behind]
        response = task_scheduler_pb2.ListSchedulesResponse(
            schedules=[self._message(self._recurrence.find(*key)) for key in left[:size]]
        )
        for message in response.schedules:
            message.spec.ClearField("payload")
        if len(left) > size:
            last = "/".join(left[size - 1])
            response.next_page_token = encode_token(last, arguments, self._key)
        await self._desk.settled()
        return response

    async def UpdateSchedule(
        self, request: task_scheduler_pb2.UpdateScheduleRequest, context: Context
    ) -> task_scheduler_pb2.UpdateScheduleResponse:
        """Change a schedule in place."""
        desk = self._desk
        desk.check(submitting=True)
        now, principal = desk.now(), current_principal()
        schedule = self._found(request.schedule.schedule_id, request.tenant)
        message = schedule_pb2.Schedule()
        self._codec.fill_plan(message, schedule.plan)
        plan = self._planner.changed(message, request, principal, now.wall_ms)
        self._recurrence.update(schedule, plan, principal.subject, now)
        message = self._message(schedule)
        await self._told()
        return task_scheduler_pb2.UpdateScheduleResponse(schedule=message)

    async def TriggerSchedule(
        self, request: task_scheduler_pb2.TriggerScheduleRequest, context: Context
    ) -> task_scheduler_pb2.TriggerScheduleResponse:
        """Make a task of a schedule at once."""
        desk = self._desk
        desk.check(submitting=True)
        checker = Checker()
        checker.key("request_id", request.request_id, optional=True, len_max=limits.id_len_max)
        checker.done()
        principal = current_principal()
        schedule = self._found(request.schedule_id, request.tenant)
        self._drafter.granted(schedule.plan.task, principal)
        try:
            task_id = self._recurrence.trigger(
                schedule, principal.subject, request.request_id, desk.now()
            )
        except PodiumError:
            await desk.settled()
            raise
        await self._told()
        return task_scheduler_pb2.TriggerScheduleResponse(task_id=task_id)

    async def DeleteSchedule(
        self, request: task_scheduler_pb2.DeleteScheduleRequest, context: Context
    ) -> task_scheduler_pb2.DeleteScheduleResponse:
        """Delete a schedule."""
        self._desk.check()
        schedule = self._found(request.schedule_id, request.tenant)
        self._recurrence.delete(schedule, current_principal().subject, self._desk.now())
        await self._told()
        return task_scheduler_pb2.DeleteScheduleResponse()

    async def PauseSchedule(
        self, request: task_scheduler_pb2.PauseScheduleRequest, context: Context
    ) -> task_scheduler_pb2.PauseScheduleResponse:
        """Pause a schedule."""
        self._desk.check()
        schedule = self._found(request.schedule_id, request.tenant)
        self._recurrence.pause(schedule, current_principal().subject, self._desk.now())
        message = self._message(schedule)
        await self._told()
        return task_scheduler_pb2.PauseScheduleResponse(schedule=message)

    async def ResumeSchedule(
        self, request: task_scheduler_pb2.ResumeScheduleRequest, context: Context
    ) -> task_scheduler_pb2.ResumeScheduleResponse:
        """Resume a schedule."""
        self._desk.check()
        schedule = self._found(request.schedule_id, request.tenant)
        self._recurrence.resume(schedule, current_principal().subject, self._desk.now())
        message = self._message(schedule)
        await self._told()
        return task_scheduler_pb2.ResumeScheduleResponse(schedule=message)

    @property
    def _recurrence(self) -> Recurrence:
        return self._desk.core.recurrence

    def _found(self, schedule_id: str, tenant: str) -> Schedule:
        """Return a schedule that the caller may know of."""
        checker = Checker()
        checker.identifier("schedule_id", schedule_id)
        checker.key("tenant", tenant, optional=True)
        checker.done()
        only = only_tenant()
        if tenant and only not in (None, tenant):
            # As if it were not there: whether it is, is none of the caller's business.
            raise NotFound(
                "SCHEDULE_NOT_FOUND",
                f"There is no schedule {schedule_id}.",
                metadata={"schedule_id": schedule_id},
            )
        return self._recurrence.find(tenant or current_principal().tenant, schedule_id)

    def _message(self, schedule: Schedule) -> schedule_pb2.Schedule:
        return schedule_message(schedule, self._codec.fill_plan)

    async def _told(self) -> None:
        self._desk.wake()
        await self._desk.settled()
