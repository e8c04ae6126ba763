"""Schedules and the clock: when they are due, and what is done then.

A time counts as missed when nobody looked for `ON_TIME_MS` after it, as while the scheduler was
down. What was due is settled by an event with the time it was due, in the same commit as the task
that was made for it: so no time makes two tasks, and none is forgotten.

A tick has time for so much and no more. Those that are on time go first, then those that were due
long ago, and last the exact number of the times that passed by, which an event of its own tells
where it is large.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from hashlib import blake2b
from heapq import heapify, heappop, heappush

from services.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
)
from services.kernel.instant import Instant
from services.task_scheduler.core import arrears
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
"""Times that passed by, up to which their number is told exactly."""
COUNTED_LEN_MAX = 16
"""Of these, how many are counted before tasks are made for those behind them."""
STEPS_LEN_MAX = 128
"""Looks into the calendar and tasks made in one tick, some 5 ms; and a few for the last one."""
LATE_STEPS_LEN_MIN = 32
"""Of these, how many are left to schedules that are late."""
STALE_LEN_MIN = 1_024
OPEN_LEN_MAX = 100
"""Tasks of one schedule that may be open at once."""

Calendar = Callable[[str, str, int], int]
"""Returns the first time a cron expression fires in a zone after a wall time; 0 = never."""

Steps = Generator[None, None, None]
Turn = tuple[Schedule, int, Steps]
"""A schedule, when it was due (0 = no matter), and what is to be done in so many steps."""


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
        self._due_len_max = STALE_LEN_MIN
        self._late: deque[Turn] = deque()
        self._uncounted: deque[Turn] = deque()
        self._now = Instant(0.0, 0)

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
            self._now = now
            for _ in self._settle(schedule):
                pass
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
        """Do what is due, as far as it takes no long time; the rest is for the next tick."""
        self._now = now
        due, left = self._due, STEPS_LEN_MAX
        while due and due[0][0] <= now.wall_ms:
            late = due[0][0] < now.wall_ms - ON_TIME_MS
            if not late and left <= LATE_STEPS_LEN_MIN:
                break
            when_ms, tenant, schedule_id = heappop(due)
            schedule = self._book.schedules.find(tenant, schedule_id)
            if schedule is None or schedule.next_ms != when_ms:
                continue
            steps = self._settle(schedule)
            if late:
                self._late.append((schedule, when_ms, steps))
            else:
                left -= sum(1 for _ in steps) + 1
        left = self._go_on(self._late, left)
        self._go_on(self._uncounted, left)

    def _go_on(self, turns: deque[Turn], left: int) -> int:
        """Go on with what was begun, as many steps as are left; return how many then are."""
        while turns and left > 0:
            schedule, when_ms, steps = turns[0]
            gone = self._book.schedules.find(*schedule.key) is not schedule
            # One that was paused or changed meanwhile has another time.
            if not gone and when_ms in (0, schedule.next_ms):
                for _ in steps:
                    left -= 1
                    if left <= 0:
                        return 0
            turns.popleft()
        return left

    def _change(self, kind: Kind, schedule: Schedule, principal: str, now: Instant) -> None:
        tenant, schedule_id = schedule.key
        self._book.declare(kind, ScheduleChange(tenant, schedule_id, principal=principal), now)

    def _wait(self, schedule: Schedule) -> None:
        schedule.next_ms = 0 if schedule.paused else self._times(schedule)(schedule.seen_ms)
        if not schedule.next_ms:
            return
        if len(self._due) >= self._due_len_max:
            self._compact()
        heappush(self._due, (schedule.next_ms, *schedule.key))

    def _compact(self) -> None:
        """Drop the times of schedules that are gone or have another; rarer, the more there are."""
        find = self._book.schedules.find
        # A schedule that was changed to and fro may have a time twice.
        kept = set()
        for entry in self._due:
            when_ms, tenant, schedule_id = entry
            schedule = find(tenant, schedule_id)
            if schedule is not None and schedule.next_ms == when_ms:
                kept.add(entry)
        self._due = list(kept)
        heapify(self._due)
        self._due_len_max = 2 * len(self._due) + STALE_LEN_MIN

    def _times(self, schedule: Schedule) -> arrears.After:
        return partial(self._calendar, schedule.plan.cron, schedule.plan.time_zone)

    def _settle(self, schedule: Schedule) -> Steps:
        """Make up for what was due, as the schedule wants it, and find out when it is due next."""
        plan, after, now_ms = schedule.plan, self._times(schedule), self._now.wall_ms
        # A change of its plan may have come in the middle of this.
        first_ms = schedule.next_ms
        if first_ms <= schedule.seen_ms:
            first_ms = after(schedule.seen_ms)
        window_ms = max(plan.window_ms, ON_TIME_MS)
        oldest_ms = now_ms - window_ms
        # One more than can be wanted: of those that passed by, when was the last?
        len_max = 2
        if plan.catch_up is CatchUp.ALL:
            len_max = min(CATCH_UP_LEN_MAX, window_ms // arrears.SPAN_MS + 1) + 1
        times = yield from arrears.newest(after, first_ms, now_ms, len_max)
        recent = [at_ms for at_ms in times if at_ms >= oldest_ms]
        wanted = _wanted(plan.catch_up, recent, now_ms) if recent else []
        passed = len(times) - len(wanted)
        if passed:
            older = arrears.count(after, first_ms, times[0], COUNTED_LEN_MAX)
            counted, at_ms = yield from older
            self._skip(schedule, times[passed - 1], passed + counted)
            if at_ms < times[0]:
                rest = self._count(schedule, at_ms, times[0])
                self._uncounted.append((schedule, 0, rest))
        for due_ms in wanted:
            self._fire(schedule, due_ms, self._now)
            yield
        self._wait(schedule)

    def _count(self, schedule: Schedule, first_ms: int, end_ms: int) -> Steps:
        """Tell how many times passed by before those that were told of."""
        older = arrears.count(self._times(schedule), first_ms, end_ms, LOOKED_AT_LEN_MAX)
        counted, _ = yield from older
        self._skip(schedule, first_ms, counted)

    def _skip(self, schedule: Schedule, due_ms: int, count: int) -> None:
        self._tell(schedule, due_ms, Firing.SKIPPED_MISSED, self._now, missed=count)

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
