from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kernel.errors import FailedPrecondition
from services.kernel.instant import Instant
from services.task_scheduler.core.event import (
    CatchUp,
    Failure,
    Overlap,
    Progress,
    Terms,
    Usage,
)
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.pauses import Scope
from services.task_scheduler.core.retry import RetryPolicy
from services.task_scheduler.core.schedule import Schedule
from services.task_scheduler.core.states import PAUSABLE, TASKLESS, TERMINAL, Kind, State
from tests.task_scheduler.rig import Rig, created, facts, plan


def test_sequence_numbers_have_no_gap() -> None:
    rig = Rig()
    for _ in range(3):
        rig.complete(rig.lease(rig.running()))

    assert [event.seq for event in rig.events] == list(range(1, rig.book.seq + 1))


def test_a_log_with_a_gap_is_not_replayed() -> None:
    rig = Rig()
    rig.submit_one()
    del rig.events[1]

    with pytest.raises(AssertionError, match="follows"):
        rig.restarted()


def test_ended_tasks_leave_memory_oldest_first_and_dead_letters_stay() -> None:
    rig = Rig(Limits(ended_len_max=2))
    dead = rig.running()
    rig.fail(rig.lease(dead), retryable=False)
    done = []
    for _ in range(4):
        task = rig.running()
        rig.complete(rig.lease(task))
        done.append(task.task_id)
    rig.advance(0.5)

    assert list(rig.book.tasks) == [dead.task_id, *done[2:]]
    assert rig.book.counts[State.COMPLETED] == 2


def test_ended_tasks_are_bounded_in_bytes_too() -> None:
    rig = Rig(Limits(ended_bytes_max=2_500))
    for _ in range(4):
        task = rig.running()
        rig.complete(rig.lease(task), result=b"r" * 1_000)
    rig.advance(0.5)

    assert len(rig.book.ended) == 2
    assert rig.book.ended_bytes <= 2_500


def test_dead_letters_are_bounded_by_their_own_limit() -> None:
    rig = Rig(Limits(dead_len_max=2))
    for _ in range(3):
        task = rig.running()
        rig.fail(rig.lease(task), retryable=False)
    rig.advance(0.5)

    assert len(rig.book.dead) == 2


def test_dead_letters_are_bounded_in_bytes_and_what_is_dropped_is_counted() -> None:
    rig = Rig(Limits(dead_bytes_max=2_500, ended_len_max=0))
    for _ in range(3):
        task = rig.running(payload=bytes(1_000))
        rig.fail(rig.lease(task), retryable=False)
    assert rig.book.dead.size_bytes > 3_000
    rig.advance(0.5)

    assert (len(rig.book.dead), rig.book.dead.dropped) == (2, 1)
    assert rig.book.dead.size_bytes <= 2_500


def test_what_is_accounted_for_returns_to_nothing() -> None:
    rig = Rig(Limits(ended_len_max=0, dead_len_max=0))
    for end in (rig.complete, lambda lease: rig.fail(lease, retryable=False)):
        task = rig.running()
        rig.core.outcomes.progressed(
            "r1", rig.lease(task), "a1", Progress(0.5, "", b"", None, b"c" * 50, 1), rig.now
        )
        end(rig.lease(task))
    canceled = rig.submit_one()
    rig.core.control.cancel(canceled, "", rig.now)
    rig.advance(0.5)

    book = rig.book
    assert (book.open_bytes, book.ended_bytes, len(book.tasks), len(book.leases)) == (0, 0, 0, 0)
    assert not any(book.counts)
    assert not any(lane.tasks or lane.waiting for lane in book.queue.lanes())
    assert (len(book.queue.keys), len(book.lineages)) == (0, 0)


LIMITS = Limits(
    ended_len_max=30,
    router_grace_s=2.0,
    tenant_weights={"red": 2.0},
    shared_concurrency_limits={"two": 3},
)


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
        )
        parent = self.some(*(set(State) - TERMINAL)) if self.draw.random() < 0.3 else None
        tenant = parent.tenant if parent else self.draw.choice(["default", "red", "blue"])
        others = [t.task_id for t in self.rig.book.tasks.values() if t.tenant == tenant][-5:]
        depends_on = self.draw.sample(others, min(len(others), self.draw.choice([0, 0, 1, 2])))
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

    def complete(self) -> None:
        if task := self.some(State.RUNNING, State.ASSIGNED):
            self.rig.complete(self.rig.lease(task), task.agent_id, bytes([self.draw.randint(0, 9)]))

    def fail(self) -> None:
        if task := self.some(State.RUNNING):
            self.rig.fail(self.rig.lease(task), task.agent_id)

    def fail_for_good(self) -> None:
        if task := self.some(State.RUNNING):
            self.rig.fail(self.rig.lease(task), task.agent_id, retryable=False)

    def progress(self) -> None:
        if task := self.some(State.RUNNING):
            number = self.draw.randint(1, 5)
            progress = Progress(0.1 * number, "on", b"", None, bytes(number), number)
            self.rig.core.outcomes.progressed(
                "r1", self.rig.lease(task), task.agent_id, progress, self.rig.now
            )

    def ask(self) -> None:
        if task := self.some(State.RUNNING):
            self.rig.core.outcomes.asked(
                "r1", self.rig.lease(task), task.agent_id, b"?", Usage(1, 2, 0.5), self.rig.now
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
            payload = self.draw.choice([None, b"other"])
            deadline_ms = self.draw.choice([0, 0, self.rig.now.wall_ms + 3_000])
            ignoring = self.draw.random() < 0.3
            with contextlib.suppress(FailedPrecondition):
                self.rig.core.control.requeue(
                    task,
                    payload,
                    self.rig.now,
                    deadline_ms=deadline_ms,
                    ignore_dependencies=ignoring,
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
            schedule_id = f"s{self.draw.randint(0, 10_000)}"
            made = plan(schedule_id, "7", overlap=overlap, catch_up=catch_up)
            recurrence.create(made.task.tenant, made, "somebody", now)

    def replan(self, schedule: Schedule, principal: str, now: Instant) -> None:
        cron, overlap = self.draw.choice(["5", "7", "0"]), self.draw.choice(list(Overlap))
        made = schedule.plan._replace(cron=cron, overlap=overlap)
        self.rig.core.recurrence.update(schedule, made, principal, now)

    def run(self, schedule: Schedule, principal: str, now: Instant) -> None:
        with contextlib.suppress(FailedPrecondition):
            self.rig.core.recurrence.trigger(schedule, principal, "", now)

    def wait(self) -> None:
        self.rig.advance(0.3)

    def wait_long(self) -> None:
        self.rig.advance(self.draw.choice([3.0, 20.0]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000))
def test_replaying_the_log_gives_exactly_the_live_state(seed: int) -> None:
    life = Life(seed)
    for _ in range(150):
        life.step()
    # Eviction is by limit, not by event: both sides are brought to the limits.
    life.rig.book.evict()

    again = life.rig.restarted()
    again.book.evict()

    assert facts(again.core) == facts(life.rig.core)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1_000_000))
def test_whatever_happens_the_log_keeps_its_promises(seed: int) -> None:
    life = Life(seed)
    for _ in range(150):
        life.step()
    rig = life.rig
    terminal = {Kind.COMPLETED, Kind.FAILED, Kind.CANCELED, Kind.EXPIRED}
    epochs = [event.lease_epoch for event in rig.events if event.kind is Kind.ASSIGNED]
    assert epochs == list(range(1, len(epochs) + 1))
    by_task: dict[str, list] = {}
    for event in rig.events:
        by_task.setdefault(event.task_id, []).append(event)
    assert {event.kind for event in by_task.pop("")} <= TASKLESS
    for events in by_task.values():
        live = ended = False
        attempt = 0
        for event in events:
            if event.kind is Kind.REQUEUED:
                ended, attempt = False, 0
            assert not ended, "an event after the end"
            ended = event.kind in terminal
            if event.kind is Kind.ASSIGNED:
                assert not live, "two live leases"
                live = True
            elif event.lease_epoch and event.kind not in (Kind.STARTED, Kind.PROGRESS):
                live = False
            if event.kind is Kind.STARTED:
                assert event.attempt == attempt + 1
                attempt = event.attempt


def test_a_failure_text_is_kept_word_for_word() -> None:
    rig = Rig()
    task = rig.running()
    rig.fail(rig.lease(task), retryable=False, reason="BAD")

    assert task.failure == Failure("BAD", "It broke.", False)
    assert rig.restarted().task(task.task_id).failure == task.failure
