from __future__ import annotations

from services.task_scheduler.core import letters
from services.task_scheduler.core.event import LettersDropped
from services.task_scheduler.core.letters import DeadLetters
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.states import Kind
from services.task_scheduler.core.task import Task
from tests.task_scheduler.rig import Rig


def dead(rig: Rig, count: int) -> list[Task]:
    tasks = [rig.running() for _ in range(count)]
    for task in tasks:
        rig.fail(rig.lease(task), retryable=False)
    return tasks


def before(found: DeadLetters, seq: int) -> list[Task]:
    return list(found.before(seq))


def test_a_place_among_dead_letters_outlives_the_letter_that_had_it() -> None:
    rig = Rig()
    first, second, third = dead(rig, 3)
    place = third.last_seq

    rig.core.control.requeue(third, None, rig.now)

    assert before(rig.book.dead, place) == [second, first]
    assert before(rig.book.dead, 0) == [second, first]
    assert before(rig.book.dead, first.last_seq) == []


def test_who_dies_again_goes_to_the_end() -> None:
    rig = Rig()
    first, second = dead(rig, 2)
    rig.credit()
    rig.core.control.requeue(first, None, rig.now)
    rig.take()
    rig.start(first)
    rig.fail(rig.lease(first), retryable=False)

    assert list(rig.book.dead) == [second.task_id, first.task_id]


def test_numbers_of_letters_that_are_gone_do_not_pile_up(monkeypatch) -> None:
    monkeypatch.setattr(letters, "GONE_LEN_MAX", 2)
    rig = Rig()
    tasks = dead(rig, 9)
    for task in tasks[1:-1]:
        rig.core.control.requeue(task, None, rig.now)

    assert len(rig.book.dead._seqs) < 5
    assert before(rig.book.dead, 0) == [tasks[8], tasks[0]]


def test_what_letters_hold_is_counted_until_they_are_gone() -> None:
    rig = Rig()
    first, second = dead(rig, 2)
    assert rig.book.dead.size_bytes == first.size_bytes + second.size_bytes
    assert rig.restarted().book.dead.size_bytes == rig.book.dead.size_bytes

    rig.core.control.requeue(first, b"another payload", rig.now)
    assert rig.book.dead.size_bytes == second.size_bytes
    assert rig.book.dead.drop(second.last_seq) == [second]
    assert (rig.book.dead.size_bytes, len(rig.book.dead)) == (0, 0)


def test_as_many_of_the_oldest_go_as_there_is_no_room_for() -> None:
    rig = Rig()
    first, second, third = dead(rig, 3)
    each = first.size_bytes

    excess = rig.book.dead.excess
    assert excess(3, 3 * each) is None
    assert excess(2, 3 * each) == LettersDropped(first.last_seq, 1)
    assert excess(3, 2 * each - 1) == LettersDropped(second.last_seq, 2)
    assert excess(0, 3 * each) == LettersDropped(third.last_seq, 3)


def test_a_letter_that_was_dropped_does_not_come_back() -> None:
    rig = Rig(Limits(dead_len_max=2))
    first, second, third = dead(rig, 3)
    rig.advance(0.5)
    rig.core.control.requeue(third, None, rig.now)
    rig.take()

    again = rig.restarted()
    again.core.start(again.now)
    again.take()

    assert list(again.book.dead) == list(rig.book.dead) == [second.task_id]
    assert first.task_id not in again.book.tasks
    # Each is told of once.
    assert (rig.book.dead.dropped, again.book.dead.dropped) == (1, 0)
    assert again.kinds().count(Kind.DEAD_LETTERS_DROPPED) == 1


def test_a_smaller_limit_drops_when_a_scheduler_begins() -> None:
    rig = Rig()
    dead(rig, 3)
    rig.limits = Limits(dead_len_max=1)

    again = rig.restarted()
    again.core.start(again.now)
    again.take()

    assert (len(again.book.dead), again.book.dead.dropped) == (1, 2)
    assert again.kinds()[-2:] == [Kind.EPOCH_BEGUN, Kind.DEAD_LETTERS_DROPPED]
