"""Schedules: tasks that come again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Unpack, cast

from podium.sdk import specs
from podium.sdk.calls import Calls
from podium.sdk.specs import SubmitOptions
from podium.v1 import schedule_pb2, task_scheduler_pb2

Overlap = Literal["skip", "queue", "cancel_running", "allow"]
CatchUp = Literal["none", "last", "all"]

SERVICE = "task_scheduler"


class Schedules:
    """What `Client.schedules` offers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(
        self,
        schedule_id: str,
        cron: str,
        task_type: str,
        payload: Any = None,
        *,
        time_zone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: CatchUp = "last",
        catch_up_window_s: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> schedule_pb2.Schedule:
        """Makes a schedule; the same one again returns the first.

        Args:
            schedule_id: chosen by the caller, unique within the tenant.
            cron: five fields, or a name such as "@daily".
            task_type: of the tasks that it makes.
            payload: theirs, as in `Client.submit`.
            time_zone: of `cron`, for example "Europe/Berlin".
            overlap: when the task before has not ended: make none ("skip"), make one that waits
                ("queue"), cancel the others first ("cancel_running"), or run beside ("allow").
            catch_up: what becomes of times that passed while the scheduler was down.
            catch_up_window_s: times longer ago than this are not made up for. Default: an hour.
            **options: as in `Client.submit`, but for those that belong to one task alone.

        Raises:
            AlreadyExists: SCHEDULE_EXISTS, another one has this id.
            InvalidArgument: something about it is not valid; `violations` say what.
        """
        schedule = schedule_pb2.Schedule(
            schedule_id=schedule_id,
            cron=cron,
            time_zone=time_zone,
            spec=specs.build(task_type, payload, options),
            overlap=cast("Any", f"OVERLAP_{overlap.upper()}"),
            catch_up=cast("Any", f"CATCH_UP_{catch_up.upper()}"),
        )
        if catch_up_window_s is not None:
            schedule.catch_up_window.CopyFrom(specs.duration(catch_up_window_s))
        request = task_scheduler_pb2.CreateScheduleRequest(schedule=schedule)
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.scheduler.CreateSchedule, request
        )
        return response.schedule

    async def get(self, schedule_id: str, *, tenant: str = "") -> schedule_pb2.Schedule:
        """Returns a schedule.

        Raises:
            NotFound: there is no such schedule.
        """
        request = task_scheduler_pb2.GetScheduleRequest(schedule_id=schedule_id, tenant=tenant)
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.scheduler.GetSchedule, request
        )
        return response.schedule

    async def list(self, *, tenant: str = "") -> AsyncIterator[schedule_pb2.Schedule]:
        """Yields schedules by tenant and id, without payloads."""
        request = task_scheduler_pb2.ListSchedulesRequest(tenant=tenant)
        while True:
            page = await self._calls.unary(
                SERVICE, lambda stubs: stubs.scheduler.ListSchedules, request
            )
            for schedule in page.schedules:
                yield schedule
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def pause(self, schedule_id: str, *, tenant: str = "") -> schedule_pb2.Schedule:
        """Lets a schedule make no tasks until it is resumed.

        Raises:
            NotFound: there is no such schedule.
        """
        request = task_scheduler_pb2.PauseScheduleRequest(schedule_id=schedule_id, tenant=tenant)
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.scheduler.PauseSchedule, request
        )
        return response.schedule

    async def resume(self, schedule_id: str, *, tenant: str = "") -> schedule_pb2.Schedule:
        """Lets a schedule go on; what was due meanwhile is not made up for.

        Raises:
            NotFound: there is no such schedule.
        """
        request = task_scheduler_pb2.ResumeScheduleRequest(schedule_id=schedule_id, tenant=tenant)
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.scheduler.ResumeSchedule, request
        )
        return response.schedule

    async def delete(self, schedule_id: str, *, tenant: str = "") -> None:
        """Deletes a schedule; its tasks go on.

        Raises:
            NotFound: there is no such schedule.
        """
        request = task_scheduler_pb2.DeleteScheduleRequest(schedule_id=schedule_id, tenant=tenant)
        await self._calls.unary(SERVICE, lambda stubs: stubs.scheduler.DeleteSchedule, request)
