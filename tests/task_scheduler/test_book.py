from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.task_scheduler.core.event import Failure, Progress
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.states import TASKLESS, Kind, State
from tests.task_scheduler.life import Life, declares_only_itself
from tests.task_scheduler.rig import Rig, facts


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
    assert (len(book.queue.keys.concurrency), len(book.lineages)) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000))
def test_replaying_the_log_gives_exactly_the_live_state(seed: int) -> None:
    life = Life(seed)
    for _ in range(150):
        life.step()
    life.bring_to_limits()

    again = life.rig.restarted()
    again.book.evict()

    assert facts(again.core) == facts(life.rig.core)
    assert declares_only_itself(again)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1_000_000))
def test_whatever_happens_the_log_keeps_its_promises(seed: int) -> None:
    life = Life(seed)
    for _ in range(150):
        life.step()
    rig, book = life.rig, life.rig.book
    assert not any(task.weigh() for task in book.tasks.values()), "grown, and not counted"
    held = [task.size_bytes for task in book.tasks.values() if not task.ended]
    assert book.open_bytes == sum(held)
    assert book.ended_bytes == sum(task.size_bytes for task in book.ended)
    assert book.dead.size_bytes == sum(task.size_bytes for task in book.dead.tasks())
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
