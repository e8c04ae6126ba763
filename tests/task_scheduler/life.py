"""Draws what happens to a scheduler: all that clients, agents, routers and clocks can do."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from operator import attrgetter

from services.kernel.errors import FailedPrecondition
from services.kernel.instant import Instant
from services.task_scheduler.core.event import (
    CatchUp,
    Overlap,
    Plan,
    Progress,
    RateLimit,
    Terms,
    Usage,
)
from services.task_scheduler.core.lane import SCHEDULE_KEY
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.pauses import Scope
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.schedule import Schedule
from services.task_scheduler.core.states import PAUSABLE, TERMINAL, Kind, State
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import Rig, created, plan

LIMITS = Limits(
    ended_len_max=30,
    dead_len_max=5,
    router_grace_s=2.0,
    tenant_weights={"red": 2.0},
    shared_concurrency_limits={"two": 3},
)
RATES = [
    (),
    (),
    (RateLimit("api", 2, 1_000),),
    (RateLimit("api", 2, 1_000), RateLimit("api", 5, 10_000), RateLimit("one", 1, 500)),
]


class Life:
    """Draws what happens next to a rig."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.rig = Rig(LIMITS, seed=seed)
        self.rig.credit("work", "more", total=10_000)
        self.steps: list[Callable[[], None]] = [
            self.submit,
            self.submit,
            self.submit,
            self.start,
            self.start,
            self.complete,
            self.complete,
            self.fail,
            self.fail_for_good,
            self.progress,
            self.ask,
            self.answer,
            self.cancel,
            self.requeue,
            self.requeue_all,
            self.hand_back,
            self.lose_router,
            self.wait,
            self.wait_long,
            self.hold,
            self.resume,
            self.resume,
            self.hold_queue,
            self.schedule,
        ]

    def step(self) -> None:
        self.draw.choice(self.steps)()
        self.rig.take()

    def some(self, *states: State):
        found = [task for task in self.rig.book.tasks.values() if task.state in states]
        return self.draw.choice(found) if found else None

    def submit(self) -> None:
        now_ms = self.rig.now.wall_ms
        terms = Terms(
            priority=self.draw.randint(0, 9),
            policy=RetryPolicy(self.draw.randint(0, 2), 100),
            attempt_timeout_ms=self.draw.choice([0, 0, 2_000]),
            deadline_ms=self.draw.choice([0, 0, now_ms + 5_000]),
            not_before_ms=self.draw.choice([0, 0, now_ms + 700]),
            skip_on_failed_dependency=self.draw.random() < 0.5,
            sticky_key=self.draw.choice(["", "k1", "k2"]),
            concurrency_keys=self.draw.choice([(), (), ("one",), ("one", "two")]),
            concurrency_limit=self.draw.choice([0, 2]),
            rate_limits=self.draw.choice(RATES),
            max_tokens=self.draw.choice([0, 0, 20]),
            max_cost=self.draw.choice([0.0, 0.0, 2.0]),
        )
        parent = self.some(*(set(State) - TERMINAL)) if self.draw.random() < 0.3 else None
        tenant = parent.tenant if parent else self.draw.choice(["default", "red", "blue"])
        others = [t.task_id for t in self.rig.book.tasks.values() if t.tenant == tenant][-5:]
        depends_on = self.draw.sample(others, min(len(others), self.draw.choice([0, 0, 1, 2, 3])))
        request_id = self.draw.choice(["", "", "q", "podium-retry:"])
        if request_id:
            request_id += str(self.draw.randint(0, 5))
        self.rig.submit(
            created(
                self.draw.choice(["work", "more", "rare"]),
                terms=terms,
                depends_on=depends_on,
                request_id=request_id,
                payload=bytes(self.draw.randint(1, 40)),
                tenant=tenant,
                parent=parent.task_id if parent else "",
            )
        )

    def start(self) -> None:
        if task := self.some(State.ASSIGNED):
            self.rig.start(task, self.draw.choice("abc"))

    def usage(self) -> Usage | None:
        if self.draw.random() < 0.5:
            return None
        return Usage(self.draw.randint(0, 9), self.draw.randint(0, 5), 0.25)

    def complete(self) -> None:
        if task := self.some(State.RUNNING, State.ASSIGNED):
            self.rig.complete(self.rig.lease(task), task.agent_id, bytes([self.draw.randint(0, 9)]))

    def fail(self) -> None:
        if task := self.some(State.RUNNING):
            self.rig.fail(self.rig.lease(task), task.agent_id, usage=self.usage())

    def fail_for_good(self) -> None:
        if task := self.some(State.RUNNING):
            lease = self.rig.lease(task)
            self.rig.fail(lease, task.agent_id, retryable=False, usage=self.usage())

    def progress(self) -> None:
        if task := self.some(State.RUNNING):
            number = self.draw.randint(1, 5)
            progress = Progress(0.1 * number, "on", b"", self.usage(), bytes(number), number)
            self.rig.core.outcomes.progressed(
                "r1", self.rig.lease(task), task.agent_id, progress, self.rig.now
            )

    def ask(self) -> None:
        if task := self.some(State.RUNNING):
            self.rig.core.outcomes.asked(
                "r1", self.rig.lease(task), task.agent_id, b"?", self.usage(), self.rig.now
            )

    def answer(self) -> None:
        if task := self.some(State.INPUT_REQUIRED):
            self.rig.core.control.answer(task, b"!", self.rig.now)

    def cancel(self) -> None:
        if task := self.some(*State):
            self.rig.core.control.cancel(task, "drawn", self.rig.now)
            if self.draw.random() < 0.5:
                self.rig.core.control.cancel_descendants(task, self.rig.now)

    def requeue(self) -> None:
        if task := self.some(State.FAILED):
            self.revive(task)

    def requeue_all(self) -> None:
        # As by a filter: those that others wait for first, so that the others wait anew.
        for task in sorted(self.rig.book.dead.tasks(), key=attrgetter("created_seq")):
            self.revive(task)

    def revive(self, task: Task) -> None:
        payload = self.draw.choice([None, b"other"])
        deadline_ms = self.draw.choice([0, 0, self.rig.now.wall_ms + 3_000])
        ignoring = self.draw.random() < 0.3
        with contextlib.suppress(FailedPrecondition):
            self.rig.core.control.requeue(
                task, payload, self.rig.now, deadline_ms=deadline_ms, ignore_dependencies=ignoring
            )

    def hand_back(self) -> None:
        if task := self.some(State.ASSIGNED, State.RUNNING):
            agent_id = self.draw.choice(["", "a", "b"])
            self.rig.core.outcomes.handed_back(
                "r1", self.rig.lease(task), "NACK_BUSY", agent_id, self.rig.now
            )

    def lose_router(self) -> None:
        self.rig.core.dispatch.close("r1", self.rig.now)
        self.rig.core.dispatch.open("r1", [], self.rig.now)
        self.rig.credit("work", "more", total=10_000)

    def hold(self) -> None:
        if task := self.some(*PAUSABLE):
            self.rig.core.control.pause(task, "drawn", self.rig.now)

    def resume(self) -> None:
        if task := self.some(State.PAUSED):
            self.rig.core.control.resume(task, self.rig.now)

    def hold_queue(self) -> None:
        scope = self.draw.choice([("", "work"), ("red", ""), ("red", "more")])
        control = self.rig.core.control
        if Scope(*scope) in self.rig.book.queue.pauses:
            control.resume_queue(*scope, self.rig.now)
        else:
            control.pause_queue(*scope, "drawn", self.rig.now)

    def schedule(self) -> None:
        recurrence, now = self.rig.core.recurrence, self.rig.now
        known = list(self.rig.book.schedules)
        if known and self.draw.random() < 0.7:
            schedule = self.draw.choice(known)
            some = [recurrence.pause, recurrence.resume, recurrence.delete, self.replan, self.run]
            self.draw.choice(some)(schedule, "somebody", now)
        elif len(known) < 3:
            overlap, catch_up = self.draw.choice(list(Overlap)), self.draw.choice(list(CatchUp))
            # Few names: one that was deleted comes again, while tasks of the first are open.
            taken = {schedule.plan.schedule_id for schedule in known}
            schedule_id = self.draw.choice([name for name in "stuv" if name not in taken])
            made = plan(schedule_id, "7", catch_up=catch_up)
            made = self.overlapping(made, overlap)
            recurrence.create(made.task.tenant, made, "somebody", now)

    def overlapping(self, made: Plan, overlap: Overlap) -> Plan:
        keys = (SCHEDULE_KEY + made.schedule_id,) if overlap is Overlap.QUEUE else ()
        task = made.task._replace(terms=made.task.terms._replace(concurrency_keys=keys))
        return made._replace(overlap=overlap, task=task)

    def replan(self, schedule: Schedule, principal: str, now: Instant) -> None:
        cron, overlap = self.draw.choice(["5", "7", "0"]), self.draw.choice(list(Overlap))
        made = self.overlapping(schedule.plan._replace(cron=cron), overlap)
        self.rig.core.recurrence.update(schedule, made, principal, now)

    def run(self, schedule: Schedule, principal: str, now: Instant) -> None:
        with contextlib.suppress(FailedPrecondition):
            self.rig.core.recurrence.trigger(schedule, principal, "", now)

    def wait(self) -> None:
        self.rig.advance(0.3)

    def wait_long(self) -> None:
        self.rig.advance(self.draw.choice([3.0, 20.0]))

    def bring_to_limits(self) -> None:
        """Do what the next tick would do: what is forgotten is forgotten by limit, not by event.

        So little later that the wall clock shows the same: what is due is so by either clock.
        """
        self.rig.advance(0.0004)
        self.rig.take()


def declares_only_itself(again: Rig) -> bool:
    """Whether a scheduler that takes over a log, which ended between two steps, adds nothing.

    Whoever adds something has judged what the scheduler before him had settled.
    """
    known = len(again.events)
    again.core.start(again.now)
    again.take()
    return [event.kind for event in again.events[known:]] == [Kind.EPOCH_BEGUN]
