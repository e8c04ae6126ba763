"""Schedules and the clock: when they are due, and what is done then.

A time counts as missed when nobody looked for `ON_TIME_MS` after it, as while the scheduler was
down. What was due is settled by an event with the time it was due, in the same commit as the task
that was made for it: so no time makes two tasks, and none is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from heapq import heappop, heappush

from services.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
)
from services.kernel.instant import Instant
from services.task_scheduler.core.admission import Admission, Draft
from services.task_scheduler.core.book import Book
from services.task_scheduler.core.control import Control
from services.task_scheduler.core.event import (
    CatchUp,
    Created,
    Firing,
    Origin,
    Overlap,
    Plan,
    ScheduleChange,
)
from services.task_scheduler.core.retry import Draw
from services.task_scheduler.core.schedule import Schedule
from services.task_scheduler.core.states import Kind

ON_TIME_MS = 60_000
CATCH_UP_LEN_MAX = 100
"""Tasks made at once for times that passed by."""
LOOKED_AT_LEN_MAX = 50_000
"""Times looked at for one schedule in one turn."""
OPEN_LEN_MAX = 100
"""Tasks of one schedule that may be open at once."""

Calendar = Callable[[str, str, int], int]
"""Returns the first time a cron expression fires in a zone after a wall time; 0 = never."""


class Recurrence:
    """Makes the tasks of schedules when their time has come."""

    def __init__(
        self, book: Book, admission: Admission, control: Control, calendar: Calendar, draw: Draw
    ) -> None:
        self._book = book
        self._admission = admission
        self._control = control
        self._calendar = calendar
        self._draw = draw
        # (when, tenant, id); one that was changed since has another time and is dropped.
        self._due: list[tuple[int, str, str]] = []

    def start(self) -> None:
        """Find out when each schedule of the log is due."""
        for schedule in self._book.schedules:
            self._wait(schedule)

    def find(self, tenant: str, schedule_id: str) -> Schedule:
        """Return a schedule.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
        """
        schedule = self._book.schedules.find(tenant, schedule_id)
        if schedule is None:
            raise NotFound(
                "SCHEDULE_NOT_FOUND",
                f"There is no schedule {schedule_id}.",
                metadata={"schedule_id": schedule_id},
            )
        return schedule

    def create(self, tenant: str, plan: Plan, principal: str, now: Instant) -> Schedule:
        """Make a schedule; the same again returns the first.

        Raises:
            AlreadyExists: SCHEDULE_EXISTS.
            ResourceExhausted: SCHEDULES_FULL.
        """
        schedules, schedule_id = self._book.schedules, plan.schedule_id
        known = schedules.find(tenant, schedule_id)
        if known is not None:
            if known.plan == plan:
                return known
            raise AlreadyExists(
                "SCHEDULE_EXISTS",
                f"There is another schedule {schedule_id}: update that one, or delete it first.",
                metadata={"schedule_id": schedule_id},
            )
        most = self._book.limits.schedules_len_max
        if len(schedules) >= most:
            raise ResourceExhausted(
                "SCHEDULES_FULL",
                f"There are {len(schedules)} schedules of at most {most}: delete some.",
                metadata={"schedules_max": str(most)},
            )
        change = ScheduleChange(tenant, schedule_id, plan, principal=principal)
        self._book.declare(Kind.SCHEDULE_CREATED, change, now)
        schedule = self.find(tenant, schedule_id)
        self._wait(schedule)
        return schedule

    def update(self, schedule: Schedule, plan: Plan, principal: str, now: Instant) -> None:
        """Let a schedule go on by another plan, of the same name and tenant."""
        assert (plan.task.tenant, plan.schedule_id) == schedule.key
        if plan == schedule.plan:
            return
        if 0 < schedule.next_ms <= now.wall_ms:
            # What was due by the plan it had is settled by that plan.
            self._settle(schedule, now)
        change = ScheduleChange(*schedule.key, plan, principal=principal)
        self._book.declare(Kind.SCHEDULE_UPDATED, change, now)
        self._wait(schedule)

    def trigger(self, schedule: Schedule, principal: str, request_id: str, now: Instant) -> str:
        """Make a task at once, paused or not, and return its id; what is due stays.

        Raises:
            AlreadyExists: IDEMPOTENCY_KEY_REUSED.
            FailedPrecondition: SCHEDULE_OVERLAP.
            ResourceExhausted: SCHEDULE_BACKLOG_FULL, or as `Admission.submit`.
        """
        plan = schedule.plan
        asked = "\0".join(("trigger", *schedule.key)).encode()
        created = self._task(plan, now.wall_ms)._replace(
            principal=principal,
            request_id=request_id,
            spec_hash=blake2b(asked, digest_size=16).digest() if request_id else b"",
        )
        known = self._admission.made_of(created, now)
        if known is not None:
            return known
        before = list(schedule.open)
        if before and plan.overlap is Overlap.SKIP:
            raise FailedPrecondition(
                "SCHEDULE_OVERLAP",
                f"Task {before[0]} of schedule {plan.schedule_id} has not ended, and it makes none "
                "beside another: wait for it, cancel it, or change `overlap`.",
                metadata={"schedule_id": plan.schedule_id, "task_id": before[0]},
            )
        if len(before) >= OPEN_LEN_MAX and plan.overlap is not Overlap.CANCEL_RUNNING:
            raise ResourceExhausted(
                "SCHEDULE_BACKLOG_FULL",
                f"Schedule {plan.schedule_id} has {len(before)} tasks that have not ended, of at "
                f"most {OPEN_LEN_MAX}.",
                metadata={"schedule_id": plan.schedule_id, "open_tasks_max": str(OPEN_LEN_MAX)},
            )
        (admitted,) = self._admission.submit([Draft(created)], now)
        change = ScheduleChange(*schedule.key, due_ms=now.wall_ms, principal=principal)
        self._book.declare(Kind.SCHEDULE_TRIGGERED, change, now)
        if plan.overlap is Overlap.CANCEL_RUNNING:
            self._make_way(plan, before, now)
        return admitted.task_id

    def delete(self, schedule: Schedule, principal: str, now: Instant) -> None:
        """Delete a schedule; its tasks go on."""
        self._change(Kind.SCHEDULE_DELETED, schedule, principal, now)

    def pause(self, schedule: Schedule, principal: str, now: Instant) -> None:
        """Let a schedule make no tasks."""
        if not schedule.paused:
            self._change(Kind.SCHEDULE_PAUSED, schedule, principal, now)
            self._wait(schedule)

    def resume(self, schedule: Schedule, principal: str, now: Instant) -> None:
        """Let a schedule go on; what was due meanwhile is not made up for."""
        if schedule.paused:
            self._change(Kind.SCHEDULE_RESUMED, schedule, principal, now)
            self._wait(schedule)

    def tick(self, now: Instant) -> None:
        """Do what is due."""
        due = self._due
        while due and due[0][0] <= now.wall_ms:
            when_ms, tenant, schedule_id = heappop(due)
            schedule = self._book.schedules.find(tenant, schedule_id)
            if schedule is not None and schedule.next_ms == when_ms:
                self._settle(schedule, now)
                self._wait(schedule)

    def _change(self, kind: Kind, schedule: Schedule, principal: str, now: Instant) -> None:
        tenant, schedule_id = schedule.key
        self._book.declare(kind, ScheduleChange(tenant, schedule_id, principal=principal), now)

    def _wait(self, schedule: Schedule) -> None:
        schedule.next_ms = 0 if schedule.paused else self._after(schedule, schedule.seen_ms)
        if schedule.next_ms:
            heappush(self._due, (schedule.next_ms, *schedule.key))

    def _after(self, schedule: Schedule, wall_ms: int) -> int:
        return self._calendar(schedule.plan.cron, schedule.plan.time_zone, wall_ms)

    def _settle(self, schedule: Schedule, now: Instant) -> None:
        """Make up for what was due, as the schedule wants it."""
        plan = schedule.plan
        oldest_ms = now.wall_ms - max(plan.window_ms, ON_TIME_MS)
        skipped = looked_at = 0
        last_ms, at_ms = 0, schedule.next_ms
        while at_ms and at_ms < oldest_ms:
            last_ms, looked_at, skipped = at_ms, looked_at + 1, skipped + 1
            # Of a scheduler that was down for years the number is not told exactly.
            after_ms = at_ms if looked_at < LOOKED_AT_LEN_MAX else oldest_ms
            at_ms = self._after(schedule, after_ms)
        # The newest of those that count, and the one before them.
        times: deque[int] = deque(maxlen=CATCH_UP_LEN_MAX + 1)
        looked_at = 0
        while at_ms and at_ms <= now.wall_ms and looked_at < LOOKED_AT_LEN_MAX:
            times.append(at_ms)
            looked_at += 1
            at_ms = self._after(schedule, at_ms)
        wanted = _wanted(plan.catch_up, list(times), now.wall_ms) if times else []
        skipped += looked_at - len(wanted)
        if len(times) > len(wanted):
            last_ms = times[len(times) - len(wanted) - 1]
        if skipped:
            self._skip(schedule, last_ms, skipped, now)
        for due_ms in wanted:
            self._fire(schedule, due_ms, now)

    def _skip(self, schedule: Schedule, due_ms: int, count: int, now: Instant) -> None:
        self._tell(schedule, due_ms, Firing.SKIPPED_MISSED, now, missed=count)

    def _fire(self, schedule: Schedule, due_ms: int, now: Instant) -> None:
        plan = schedule.plan
        if schedule.open and plan.overlap is Overlap.SKIP:
            self._tell(schedule, due_ms, Firing.SKIPPED_OVERLAP, now)
            return
        if schedule.open and plan.overlap is Overlap.CANCEL_RUNNING:
            self._make_way(plan, list(schedule.open), now)
        if len(schedule.open) >= OPEN_LEN_MAX or not self._admission.room_for(plan.task, now):
            self._tell(schedule, due_ms, Firing.SKIPPED_LIMIT, now)
            return
        self._tell(schedule, due_ms, Firing.CREATED, now)
        created = self._book.dated(self._task(plan, due_ms), now.wall_ms)
        task = self._book.create(created, now)
        if not task.next_ms and not task.open_dependencies:
            self._book.record(Kind.QUEUED, task, now)

    def _task(self, plan: Plan, due_ms: int) -> Created:
        return plan.task._replace(
            traceparent=f"00-{self._hex(4)}-{self._hex(2)}-01",
            origin=Origin(schedule_id=plan.schedule_id, schedule_ms=due_ms),
        )

    def _make_way(self, plan: Plan, task_ids: Sequence[str], now: Instant) -> None:
        reason = f"Schedule {plan.schedule_id} makes its next task."
        for task_id in task_ids:
            task = self._book.tasks[task_id]
            self._control.cancel(task, reason, now)
            self._control.cancel_descendants(task, now)

    def _tell(
        self, schedule: Schedule, due_ms: int, firing: Firing, now: Instant, *, missed: int = 0
    ) -> None:
        tenant, schedule_id = schedule.key
        change = ScheduleChange(tenant, schedule_id, None, due_ms, firing, missed)
        self._book.declare(Kind.SCHEDULE_FIRED, change, now)

    def _hex(self, words: int) -> str:
        # The last bit is set: ids of zeros alone are not valid.
        return "".join(f"{int(self._draw() * 0xFFFFFFFF) | 1:08x}" for _ in range(words))


def _wanted(catch_up: CatchUp, times: list[int], now_ms: int) -> list[int]:
    """Return the times, the last ones, for which tasks are made."""
    on_time = int(now_ms - times[-1] <= ON_TIME_MS)
    if catch_up is CatchUp.ALL:
        return times[-CATCH_UP_LEN_MAX:]
    if catch_up is CatchUp.LAST or on_time:
        return times[-1:]
    return []
