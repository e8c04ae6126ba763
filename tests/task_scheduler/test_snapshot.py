from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kernel.errors import FailedPrecondition
from services.kernel.instant import Instant
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.core import snapshot
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.snapshot import Picture, Restoring
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import SHOWN_BLOCKED, Task
from services.task_scheduler.core.timers import in_force
from tests.task_scheduler.life import Life, declares_only_itself
from tests.task_scheduler.rig import Rig, created, facts


def restored(rig: Rig, parts: list[bytes]) -> Rig:
    """Return a core that begins with a snapshot of this one's, in a process of its own."""
    again = Rig(rig.limits, router="")
    again.core = Scheduler(rig.limits, random.Random(2).random)
    again.now = Instant(5.0, rig.now.wall_ms)
    restoring = Restoring(again.core.book, again.now)
    for part in parts:
        restoring.add(unpack(part))
    restoring.finish()
    again.forget_starts()
    return again


def packed(rig: Rig) -> list[bytes]:
    return [pack(part) for part in Picture(rig.book).parts()]


def state(rig: Rig) -> dict[str, object]:
    """Return what is a fact of the log, and still means something."""
    found = copy.deepcopy(facts(rig.core))
    del found["next_id"]  # asking for it makes one
    return found


def timers(rig: Rig) -> set[tuple[str, str, int]]:
    """Return what is due and when, in tenths of a second from now."""
    return {
        (task.task_id, purpose.name, round((due_s - rig.now.mono_s) * 10))
        for due_s, _, task, purpose, token in rig.book.timers._heap
        if in_force(task, purpose, token)
        and not task.ended
        # One that is over and waits for other tasks or is held may come again: it changes nothing.
        and not (task.shown_state in (SHOWN_BLOCKED, State.PAUSED) and due_s <= rig.now.mono_s)
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000_000), st.integers(1, 150))
def test_a_snapshot_and_the_log_behind_it_give_exactly_the_live_state(
    seed: int, moment: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "PART_LEN", 3)
        life = Life(seed)
        for _ in range(moment):
            life.step()
        picture = Picture(life.rig.book)
        seq, then = life.rig.book.seq, state(life.rig)
        due_then = timers(life.rig)
        moment_of = life.rig.now
        parts = []
        # Slice by slice, while the book goes on changing.
        for part in picture.parts():
            parts.append(pack(part))
            for _ in range(3):
                life.step()
        life.bring_to_limits()

        now, life.rig.now = life.rig.now, moment_of
        again = restored(life.rig, parts)
        assert state(again) == then
        assert timers(again) == due_then

        life.rig.now = now
        again = restored(life.rig, parts)
        for event in life.rig.events:
            if event.seq > seq:
                again.core.replay(event, again.now)
        again.book.evict()
        again.forget_starts()
        life.rig.forget_starts()
        assert state(again) == state(life.rig)
        assert declares_only_itself(again)


def test_when_the_last_slice_is_taken_changes_cost_nothing_more() -> None:
    rig = Rig()
    task = rig.granted()
    assert list(Picture(rig.book).parts())
    assert rig.book.before_change is None

    picture = Picture(rig.book)
    rig.start(task)
    picture.drop()
    assert rig.book.before_change is None


def test_a_picture_is_not_taken_in_the_middle_of_a_step() -> None:
    rig = Rig()
    rig.core.admission.submit([], rig.now)
    rig.core.control.cancel(rig.submit_one(), "", rig.now)

    with pytest.raises(AssertionError, match="between two steps"):
        Picture(rig.book)


def test_restored_tasks_wait_run_and_end_as_if_nothing_had_happened() -> None:
    rig = Rig()
    running = rig.running(agent_id="a7")
    rig.credit("work", total=1)
    first = rig.submit_one(terms=Terms(priority=1))
    urgent = rig.submit_one(terms=Terms(priority=9))
    blocked = rig.submit_one(depends_on=[first.task_id])

    again = restored(rig, packed(rig))
    again.router = "r1"
    again.core.start(again.now)
    again.take()
    again.core.dispatch.open("r1", [rig.lease(running)], again.now)
    again.credit("work", total=2)

    assert [grant.task.task_id for grant in again.grants()] == [urgent.task_id, first.task_id]
    again.complete(again.lease(again.task(running.task_id)), "a7")
    again.complete(again.lease(again.task(first.task_id)))
    assert again.task(running.task_id).state is State.COMPLETED
    assert again.task(blocked.task_id).state is State.QUEUED


def test_lease_epochs_and_task_ids_go_on_behind_the_snapshot() -> None:
    rig = Rig()
    task = rig.granted()
    last_id = rig.submit_one("other").task_id

    again = restored(rig, packed(rig))

    assert again.book.lease_epoch == task.lease_epoch == 1
    assert again.submit_one().task_id > last_id


def test_a_field_that_an_earlier_version_did_not_write_has_its_first_value() -> None:
    rig = Rig()
    rig.submit_one(terms=Terms(priority=3))
    parts = [unpack(part) for part in packed(rig)]
    tasks = parts[-1]
    for name in ("message", "checkpoint"):
        del tasks["same"][name]
    del tasks["same"]["terms"]["max_tokens"]
    tasks["same"]["of_a_later_version"] = 7

    again = restored(rig, [pack(part) for part in parts])

    (task,) = again.book.tasks.values()
    assert (task.message, task.checkpoint, task.terms) == ("", b"", Terms(priority=3))


def test_a_snapshot_that_would_be_misunderstood_is_refused() -> None:
    rig = Rig()
    parts = [unpack(part) for part in packed(rig)]
    parts[0]["version"] += 1

    with pytest.raises(FailedPrecondition) as refused:
        restored(rig, [pack(part) for part in parts])

    assert refused.value.reason == "JOURNAL_TOO_NEW"


def test_half_a_snapshot_is_not_taken_for_a_whole_one() -> None:
    rig = Rig()
    rig.submit(*[created() for _ in range(snapshot.PART_LEN + 1)])

    with pytest.raises(AssertionError, match="not whole"):
        restored(rig, packed(rig)[:-1])


def test_each_field_of_a_task_is_stored_or_derived() -> None:
    # A field that is forgotten here would be lost with the first restart.
    assert set(snapshot._STORED) | snapshot._DERIVED == set(Task.__slots__)
    assert not set(snapshot._STORED) & snapshot._DERIVED
