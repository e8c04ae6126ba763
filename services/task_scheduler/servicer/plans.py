"""From the schedule of a request to the core's plan: checked, defaults filled in; and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from podium.v1 import schedule_pb2
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

Message = schedule_pb2.Schedule


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
