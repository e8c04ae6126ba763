"""Schedules: tasks that come again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Unpack, cast

from google.protobuf.field_mask_pb2 import FieldMask

from podium.sdk import specs
from podium.sdk.calls import Calls
from podium.sdk.keys import check_chosen, own_key
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

    async def update(
        self,
        schedule_id: str,
        *,
        cron: str = "",
        task_type: str = "",
        payload: Any = ...,
        time_zone: str = "",
        overlap: Overlap | None = None,
        catch_up: CatchUp | None = None,
        catch_up_window_s: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> schedule_pb2.Schedule:
        """Changes in place what is given; the rest, and what it has done, stay as they are.

        Args:
            schedule_id: which.
            cron: another expression; its first time is behind the change.
            task_type: another type of its tasks.
            payload: another payload of its tasks.
            time_zone: another zone of `cron`.
            overlap: as in `create`.
            catch_up: as in `create`.
            catch_up_window_s: as in `create`.
            **options: as in `create`; `tenant` tells whose it is, and cannot be changed.

        Raises:
            NotFound: there is no such schedule.
            InvalidArgument: something about it would not be valid; `violations` say what.
        """
        tenant = options.get("tenant", "")
        spec = specs.build(task_type, None if payload is ... else payload, options)
        if payload is ...:
            spec.ClearField("payload")
        schedule = schedule_pb2.Schedule(schedule_id=schedule_id, cron=cron, time_zone=time_zone)
        if overlap is not None:
            schedule.overlap = cast("Any", f"OVERLAP_{overlap.upper()}")
        if catch_up is not None:
            schedule.catch_up = cast("Any", f"CATCH_UP_{catch_up.upper()}")
        if catch_up_window_s is not None:
            schedule.catch_up_window.CopyFrom(specs.duration(catch_up_window_s))
        paths = [field.name for field, _ in schedule.ListFields() if field.name != "schedule_id"]
        paths += [f"spec.{field.name}" for field, _ in spec.ListFields()]
        if not paths:
            return await self.get(schedule_id, tenant=tenant)
        schedule.spec.CopyFrom(spec)
        request = task_scheduler_pb2.UpdateScheduleRequest(
            schedule=schedule, update_mask=FieldMask(paths=paths), tenant=tenant
        )
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.scheduler.UpdateSchedule, request
        )
        return response.schedule

    async def trigger(self, schedule_id: str, *, tenant: str = "", request_id: str = "") -> str:
        """Makes a task of a schedule at once, also of one that is paused, and returns its id.

        Args:
            schedule_id: which.
            tenant: whose it is. Default: the caller's tenant.
            request_id: makes the call safe to repeat by others; lost answers are repeated anyway.

        Raises:
            NotFound: there is no such schedule.
            FailedPrecondition: SCHEDULE_OVERLAP, it makes none beside one that has not ended.
            ResourceExhausted: there is no room for it.
        """
        check_chosen(request_id)
        request = task_scheduler_pb2.TriggerScheduleRequest(
            schedule_id=schedule_id,
            tenant=tenant,
            request_id=request_id or own_key(self._calls.patience_s),
        )
        response = await self._calls.unary(
            SERVICE, lambda stubs: stubs.scheduler.TriggerSchedule, request
        )
        return response.task_id

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
