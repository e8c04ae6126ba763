"""The scheduler's core: every input is a method, told the time; what follows is taken with `take`.

Nothing of what `take` returns, and no answer that rests on it, may leave this process before the
events taken with it are durable.
"""

from __future__ import annotations

from typing import NamedTuple

from services.kernel.instant import Instant
from services.task_scheduler.core.admission import Admission
from services.task_scheduler.core.book import Book, Recorded, Redate, as_it_is
from services.task_scheduler.core.control import Control
from services.task_scheduler.core.dependents import Dependents
from services.task_scheduler.core.dispatch import GRANTS_PER_STEP_MAX, Dispatch
from services.task_scheduler.core.event import Event
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.orders import Order, Orders
from services.task_scheduler.core.outcome import Outcomes
from services.task_scheduler.core.recurrence import Calendar, Recurrence
from services.task_scheduler.core.retry import Draw
from services.task_scheduler.core.states import Kind, State
from services.task_scheduler.core.task import Task
from services.task_scheduler.core.timers import Purpose

EVICT_EVERY = 4_096


class Step(NamedTuple):
    """What happened since the last step was taken."""

    events: list[Recorded]
    orders: list[tuple[str, Order]]


class Scheduler:
    """All decisions about tasks of one partition."""

    def __init__(
        self,
        limits: Limits,
        draw: Draw,
        partition: int = 0,
        *,
        calendar: Calendar = lambda cron, zone, wall_ms: 0,
        redate: Redate = as_it_is,
    ) -> None:
        self.book = Book(limits, partition)
        self.book.redate = redate
        self.orders = Orders()
        self.dispatch = Dispatch(self.book, self.orders)
        self.dependents = Dependents(self.book)
        self.outcomes = Outcomes(self.book, self.orders, self.dispatch, self.dependents, draw)
        self.admission = Admission(self.book, self.dependents)
        self.control = Control(self.book, self.orders, self.dependents, self.admission)
        self.recurrence = Recurrence(self.book, self.admission, self.control, calendar, draw)
        self.more = False
        """Whether the last step had no room for every grant that was possible, or for all that
        follows from the end of a task."""

    def replay(self, event: Event, now: Instant) -> None:
        """Apply an event of the log; `now` is the time of the recovery."""
        mono_s = now.mono_s - (now.wall_ms - event.wall_ms) / 1000
        self.book.apply(event, mono_s)
        if event.seq % EVICT_EVERY == 0:
            self.book.evict()
            self.book.queue.keys.rates.advance(mono_s)

    def start(self, now: Instant) -> None:
        """Take over the log that was replayed: leases go on, and no attempt is spent."""
        self.book.evict()
        self.book.requests.begin(now.wall_ms)
        self.book.begin_epoch(now)
        self.book.drop_letters(now)
        self.dispatch.restart(now)
        self.dependents.restart(now)
        self.recurrence.start()

    def tick(self, now: Instant) -> None:
        """Do what time demands: retries, delayed starts, deadlines, timeouts, run-out leases."""
        for task in self.dispatch.tick(now):
            self.outcomes.run_out(task, now)
        self._do_due(now)
        self.recurrence.tick(now)
        self.book.requests.forget(now.wall_ms)
        self.book.drop_letters(now)
        self.book.evict()

    def take(self, now: Instant) -> Step:
        """Grant what can be granted, then return and forget what has happened."""
        # A tick may be late, and after a restart none has come yet: nothing is granted whose
        # deadline has passed.
        self._do_due(now)
        self.dependents.follow_up(now)
        granted = self.dispatch.grant(now)
        self.dependents.end_step()
        self.more = granted == GRANTS_PER_STEP_MAX or bool(self.book.waits.affected)
        events, self.book.outbox = self.book.outbox, []
        return Step(events, self.orders.take())

    def _do_due(self, now: Instant) -> None:
        for task, purpose in self.book.timers.due(now.mono_s):
            if purpose is Purpose.DEADLINE:
                self.control.expire(task, now)
            elif purpose is Purpose.ATTEMPT:
                self.outcomes.time_out(task, now)
            else:
                self._due(task, now)

    def _due(self, task: Task, now: Instant) -> None:
        if task.state is State.PAUSED or task.open_dependencies:
            # Its time has come, the tasks it depends on have not, or it is held: it is queued when
            # that is over.
            return
        self.book.record(Kind.QUEUED, task, now)
