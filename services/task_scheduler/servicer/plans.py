"""From the schedule of a request to the core's plan: checked, defaults filled in; and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from google.protobuf.field_mask_pb2 import FieldMask

from podium.v1 import schedule_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import TaskSpec
from services.kernel import limits
from services.kernel.auth import Principal
from services.kernel.errors import InvalidArgument, Violation
from services.kernel.rules import Checker
from services.task_scheduler.core.event import CatchUp, Overlap, Plan
from services.task_scheduler.core.lane import SCHEDULE_KEY
from services.task_scheduler.core.schedule import Schedule
from services.task_scheduler.servicer.drafts import Drafter

CRON_LEN_MAX = 128
ZONE_LEN_MAX = 64
WINDOW_MS = 3_600_000
FOREIGN = ("request_id", "deadline", "not_before", "depends_on", "parent_task_id", "traceparent")
"""Fields of a task that belong to one task alone."""

CHANGEABLE = ("cron", "time_zone", "spec", "overlap", "catch_up", "catch_up_window")

Message = schedule_pb2.Schedule
UpdateRequest = task_scheduler_pb2.UpdateScheduleRequest


class Cron(Protocol):
    """Reads expressions and time zones."""

    def check_cron(self, cron: str, wall_ms: int) -> None:
        """Raise ValueError unless an expression can be read and fires some day."""

    def check_zone(self, time_zone: str) -> None:
        """Raise ValueError unless there is such a time zone."""


class Planner:
    """Checks schedules."""

    def __init__(self, drafter: Drafter, cron: Cron) -> None:
        self._drafter = drafter
        self._cron = cron

    def plan(self, message: Message, principal: Principal, now_ms: int) -> Plan:
        """Return the plan of a schedule, whose message is spoiled by it.

        Raises:
            InvalidArgument: INVALID_FIELD or PAYLOAD_TOO_LARGE.
            PermissionDenied: ROLE_MISSING, for the tasks of another tenant.
        """
        message.time_zone = message.time_zone or "UTC"
        checker = Checker()
        self._check(checker, message, now_ms)
        checker.done()
        overlap = Overlap(message.overlap or Overlap.SKIP)
        own_key = SCHEDULE_KEY + message.schedule_id if overlap is Overlap.QUEUE else ""
        try:
            draft = self._drafter.recurring(message.spec, own_key, principal, now_ms)
        except InvalidArgument as error:
            raise _renamed(error) from None
        window = message.catch_up_window
        return Plan(
            message.schedule_id,
            message.cron,
            message.time_zone,
            overlap,
            CatchUp(message.catch_up or CatchUp.LAST),
            window.ToMilliseconds() if message.HasField("catch_up_window") else WINDOW_MS,
            draft.created._replace(traceparent=""),
        )

    def changed(
        self, message: Message, request: UpdateRequest, principal: Principal, now_ms: int
    ) -> Plan:
        """Return the plan of a schedule with what a request changes.

        Args:
            message: The schedule as it stands, which is spoiled by it.
            request: What changes.
            principal: Who asks for it.
            now_ms: The time.

        Raises:
            InvalidArgument: FIELD_MASK_INVALID, or as `plan`.
            PermissionDenied: As `plan`.
        """
        tenant, schedule_id = message.spec.tenant, message.schedule_id
        own_key = SCHEDULE_KEY + schedule_id
        spec = message.spec
        spec.concurrency_keys[:] = [key for key in spec.concurrency_keys if key != own_key]
        if list(spec.required_capabilities) == [spec.type]:
            # As if they had not been given: those of another type follow from it.
            del spec.required_capabilities[:]
        for path in _paths(request):
            first, dot, name = path.partition(".")
            if dot:
                _take(request.schedule.spec, message.spec, name)
            else:
                _take(request.schedule, message, first)
        spec = message.spec  # another one, where it was replaced as a whole
        spec.tenant = spec.tenant or tenant
        checker = Checker()
        same = spec.tenant == tenant
        checker.require("schedule.spec.tenant", same, "cannot be changed")
        checker.done()
        return self.plan(message, principal, now_ms)

    def _check(self, checker: Checker, message: Message, now_ms: int) -> None:
        checker.identifier("schedule.schedule_id", message.schedule_id)
        checker.text("schedule.cron", message.cron, CRON_LEN_MAX)
        checker.text("schedule.time_zone", message.time_zone, ZONE_LEN_MAX)
        if checker:
            cron, zone = message.cron, message.time_zone
            _try(checker, "schedule.cron", lambda: self._cron.check_cron(cron, now_ms))
            _try(checker, "schedule.time_zone", lambda: self._cron.check_zone(zone))
        known = message.overlap in Message.Overlap.values()
        checker.require("schedule.overlap", known, "must be SKIP, QUEUE, CANCEL_RUNNING or ALLOW")
        known = message.catch_up in Message.CatchUp.values()
        checker.require("schedule.catch_up", known, "must be NONE, LAST or ALL")
        checker.duration(
            "schedule.catch_up_window", message.catch_up_window, 0.0, limits.deadline_s_max
        )
        set_fields = {field.name for field, _ in message.spec.ListFields()}
        for name in FOREIGN:
            checker.require(f"schedule.spec.{name}", name not in set_fields, "is not for schedules")


def _paths(request: UpdateRequest) -> list[str]:
    """Return the fields to change: those of the mask, or those that are set."""
    paths = list(request.update_mask.paths)
    if paths == ["*"]:
        return list(CHANGEABLE)
    if not paths:
        given = {field.name for field, _ in request.schedule.ListFields()}
        return [name for name in CHANGEABLE if name in given]
    fields = TaskSpec.DESCRIPTOR.fields_by_name
    for path in paths:
        first, dot, name = path.partition(".")
        if first not in CHANGEABLE or (dot and (first != "spec" or name not in fields)):
            raise InvalidArgument(
                "FIELD_MASK_INVALID",
                f"update_mask may name {', '.join(CHANGEABLE)} or a field of spec; not "
                f"{path[:64]!r}.",
                metadata={"path": path[:64]},
            )
    return paths


def _take(source: Message | TaskSpec, target: Message | TaskSpec, name: str) -> None:
    """Replace a field of a message by that of another, which may not have it."""
    target.ClearField(name)
    if any(field.name == name for field, _ in source.ListFields()):
        FieldMask(paths=[name]).MergeMessage(source, target, True, True)


def schedule_message(schedule: Schedule, fill: Callable[[Message, Plan], None]) -> Message:
    """Return a schedule as it stands; `fill` writes its plan."""
    message = Message(
        tenant=schedule.tenant,
        paused=schedule.paused,
        last_task_id=schedule.last_task_id,
        open_task_ids=list(schedule.open),
        task_count=schedule.task_count,
        skip_count=schedule.skip_count,
    )
    fill(message, schedule.plan)
    message.create_time.FromMilliseconds(schedule.created_ms)
    if schedule.next_ms:
        message.next_time.FromMilliseconds(schedule.next_ms)
    if schedule.last_ms:
        message.last_time.FromMilliseconds(schedule.last_ms)
    return message


def _try(checker: Checker, path: str, check: Callable[[], None]) -> None:
    try:
        check()
    except ValueError as error:
        checker.fault(path, str(error))


def _renamed(error: InvalidArgument) -> InvalidArgument:
    """Return an error about the first task of a batch as one about the task of a schedule."""

    def rename(text: str) -> str:
        return text.replace("tasks[0]", "schedule.spec")

    return InvalidArgument(
        error.reason,
        rename(error.message),
        metadata={name: rename(value) for name, value in error.metadata.items()},
        violations=[Violation(rename(v.field), v.description) for v in error.violations],
    )
