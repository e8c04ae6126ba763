"""Schedules as the log has them: what they do, what they have done, and which tasks are open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from services.task_scheduler.core.event import Firing, Plan, ScheduleChange
from services.task_scheduler.core.lane import SCHEDULE_KEY
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Task

ScheduleKey = tuple[str, str]
"""Tenant and id."""


class Schedule:
    """One schedule."""

    __slots__ = (
        "created_ms",
        "last_ms",
        "last_task_id",
        "next_ms",
        "open",
        "paused",
        "plan",
        "principal",
        "seen_ms",
        "skip_count",
        "task_count",
        "tenant",
    )

    def __init__(self, tenant: str, plan: Plan, principal: str, created_ms: int) -> None:
        self.tenant = tenant
        self.plan = plan
        self.principal = principal
        self.created_ms = created_ms
        self.seen_ms = created_ms
        """Up to this time everything that was due is settled."""
        self.last_ms = 0
        """The last time it was due."""
        self.paused = False
        self.last_task_id = ""
        self.open: dict[str, None] = {}
        """Its tasks that have not ended, oldest first."""
        self.task_count = 0
        self.skip_count = 0
        self.next_ms = 0
        """When it is due next; follows from the rest and is no fact of the log."""

    @property
    def key(self) -> ScheduleKey:
        """What names it."""
        return self.tenant, self.plan.schedule_id

    def update(self, plan: Plan, wall_ms: int) -> None:
        """Take another plan; by new times nothing was due before they were set."""
        before, self.plan = self.plan, plan
        if (plan.cron, plan.time_zone) != (before.cron, before.time_zone):
            self.seen_ms = max(self.seen_ms, wall_ms)


class Schedules:
    """All schedules."""

    __slots__ = ("_schedules",)

    def __init__(self) -> None:
        self._schedules: dict[ScheduleKey, Schedule] = {}

    def __len__(self) -> int:
        return len(self._schedules)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._schedules.values())

    def find(self, tenant: str, schedule_id: str) -> Schedule | None:
        """Return a schedule."""
        return self._schedules.get((tenant, schedule_id))

    def apply(self, kind: Kind, change: ScheduleChange, wall_ms: int) -> None:
        """Change a schedule as an event says."""
        key = change.tenant, change.schedule_id
        if kind is Kind.SCHEDULE_CREATED:
            assert change.plan is not None
            self._schedules[key] = Schedule(change.tenant, change.plan, change.principal, wall_ms)
            return
        schedule = self._schedules[key]
        if kind is Kind.SCHEDULE_UPDATED:
            assert change.plan is not None
            schedule.update(change.plan, wall_ms)
        elif kind is Kind.SCHEDULE_DELETED:
            del self._schedules[key]
        elif kind is Kind.SCHEDULE_PAUSED:
            schedule.paused = True
        elif kind is Kind.SCHEDULE_RESUMED:
            schedule.paused = False
            schedule.seen_ms = max(schedule.seen_ms, wall_ms)
        elif kind is Kind.SCHEDULE_FIRED:
            schedule.seen_ms = max(schedule.seen_ms, change.due_ms)
            schedule.last_ms = max(schedule.last_ms, change.due_ms)
            if change.firing is not Firing.CREATED:
                schedule.skip_count += change.missed or 1

    def holds_back(self, task: Task) -> bool:
        """Whether a task has to wait until others that its schedule made have ended.

        One that is to be revived would come behind all of those.
        """
        if SCHEDULE_KEY + task.origin.schedule_id not in task.terms.concurrency_keys:
            return False
        schedule = self.of(task)
        return schedule is not None and next(iter(schedule.open), task.task_id) != task.task_id

    def of(self, task: Task) -> Schedule | None:
        """Return the schedule that made a task, if there is one."""
        return self._schedules.get((task.tenant, task.origin.schedule_id))

    def made(self, task: Task) -> None:
        """Note a task that a schedule has made, or one that was revived."""
        schedule = self.of(task)
        if schedule is not None:
            schedule.open[task.task_id] = None
            if task.task_id > schedule.last_task_id:
                schedule.last_task_id = task.task_id
                schedule.task_count += 1

    def ended(self, task: Task) -> str:
        """Note that a task has ended; return whose turn it is of those that have not."""
        schedule = self.of(task)
        if schedule is None:
            return ""
        schedule.open.pop(task.task_id, None)
        return next(iter(schedule.open), "")

    def plain(self) -> list[dict[str, Any]]:
        """Return the schedules as plain values, plans as they are; `restore` takes them."""
        return [
            {
                "tenant": schedule.tenant,
                "plan": schedule.plan,
                "principal": schedule.principal,
                "created_ms": schedule.created_ms,
                "seen_ms": schedule.seen_ms,
                "last_ms": schedule.last_ms,
                "paused": schedule.paused,
                "last_task_id": schedule.last_task_id,
                "open": list(schedule.open),
                "task_count": schedule.task_count,
                "skip_count": schedule.skip_count,
            }
            for schedule in self._schedules.values()
        ]

    def restore(self, rows: Iterable[dict[str, Any]]) -> None:
        """Go on from what `plain` gave."""
        for row in rows:
            schedule = Schedule(row["tenant"], row["plan"], row["principal"], row["created_ms"])
            for name in ("seen_ms", "last_ms", "paused", "last_task_id"):
                setattr(schedule, name, row[name])
            schedule.open = dict.fromkeys(row["open"])
            schedule.task_count, schedule.skip_count = row["task_count"], row["skip_count"]
            self._schedules[schedule.key] = schedule
