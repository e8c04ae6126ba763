from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kernel.instant import Instant
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.core import requests, snapshot
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.records import Plain
from services.task_scheduler.core.restoring import Restoring
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.snapshot import KEPT_PART_BYTES_MAX, PART_LEN, Album, Picture
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
    return list(Album(pack).parts(Picture(rig.book)))


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
@given(st.integers(0, 1_000_000), st.integers(1, 150), st.sampled_from([0, 2_000, 1 << 20]))
def test_a_snapshot_and_the_log_behind_it_give_exactly_the_live_state(
    seed: int, moment: int, kept_bytes_max: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "PART_LEN", 3)
        patch.setattr(requests, "BLOCK_LEN", 2)
        life = Life(seed)
        album = Album(pack, kept_bytes_max)
        for steps in (moment, 20, 3):
            for _ in range(steps):
                life.step()
            # Each takes over what the one before has kept.
            at_one_moment(life, album)


def at_one_moment(life: Life, album: Album) -> None:
    picture = Picture(life.rig.book)
    seq, then = life.rig.book.seq, state(life.rig)
    due_then = timers(life.rig)
    moment_of = life.rig.now
    parts = []
    # Slice by slice, while the book goes on changing.
    for number, part in enumerate(album.parts(picture)):
        parts.append(part)
        for _ in range(3 if number < 10 else 0):
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


class Counting:
    """Packs parts, and counts their rows."""

    def __init__(self) -> None:
        self.tasks = self.requests = 0

    def pack(self, part: Plain) -> bytes:
        self.tasks += part.get("len", 0)
        self.requests += len(part.get("requests", ()))
        return pack(part)

    def taken(self, rig: Rig, album: Album) -> tuple[int, int]:
        """Take a snapshot; return how many tasks and request ids were packed for it."""
        self.tasks = self.requests = 0
        restored(rig, list(album.parts(Picture(rig.book))))
        return self.tasks, self.requests


def many(rig: Rig, count: int, *, ends: bool = True) -> None:
    """Let tasks with request ids come, and end."""
    first = len(rig.book.tasks)
    rig.credit("work", total=100_000)
    task_ids = rig.submit(*[created(request_id=f"q{first + n}") for n in range(count)])
    for task in map(rig.task, task_ids if ends else []):
        rig.start(task)
        rig.complete(rig.lease(task))


def test_only_what_has_changed_since_the_last_snapshot_is_packed() -> None:
    rig, counting = Rig(), Counting()
    album = Album(counting.pack)
    many(rig, 10 * PART_LEN)
    assert counting.taken(rig, album) == (10 * PART_LEN, 10 * PART_LEN)

    assert counting.taken(rig, album)[0] == 0

    waiting = rig.submit_one("rare")
    many(rig, 10)
    assert counting.taken(rig, album) == (11, 10 * PART_LEN + 10 - requests.BLOCK_LEN)

    # What waits is packed once as well.
    many(rig, 2 * PART_LEN, ends=False)
    assert counting.taken(rig, album)[0] <= 2 * PART_LEN + 11
    assert counting.taken(rig, album)[0] <= PART_LEN // 2

    rig.core.control.cancel(waiting, "", rig.now)
    rig.take()
    assert counting.taken(rig, album)[0] <= 2 * PART_LEN


def test_forgetting_old_tasks_and_ids_costs_a_part_each() -> None:
    rig = Rig(Limits(ended_len_max=10 * PART_LEN, request_ids_len_max=3 * requests.BLOCK_LEN))
    counting = Counting()
    album = Album(counting.pack)
    many(rig, 12 * PART_LEN)
    rig.advance(0.1)
    counting.taken(rig, album)
    new = 3 * PART_LEN // 2

    for _ in range(4):
        many(rig, new)
        rig.advance(0.1)
        tasks, ids = counting.taken(rig, album)

        assert len(rig.book.tasks) == 10 * PART_LEN
        assert tasks <= new + 2 * PART_LEN
        assert ids <= new + 2 * requests.BLOCK_LEN


def test_what_is_kept_for_the_next_snapshot_is_bounded_and_the_newest() -> None:
    rig, counting = Rig(), Counting()
    task_ids = rig.submit(*[created() for _ in range(10 * PART_LEN)])
    whole = len(packed(rig)[1])
    for bytes_max, kept_len in ((0, 0), (7 * whole // 2, 3)):
        album = Album(counting.pack, bytes_max)
        counting.taken(rig, album)

        assert counting.taken(rig, album)[0] == (10 - kept_len) * PART_LEN

    rig.core.control.cancel(rig.task(task_ids[0]), "", rig.now)
    rig.take()
    assert counting.taken(rig, album)[0] == 7 * PART_LEN
    rig.core.control.cancel(rig.task(task_ids[-1]), "", rig.now)
    rig.take()
    assert counting.taken(rig, album)[0] == 8 * PART_LEN


def test_parts_of_large_tasks_are_not_kept() -> None:
    rig, counting = Rig(), Counting()
    album = Album(counting.pack)
    size_bytes = KEPT_PART_BYTES_MAX // PART_LEN + 1
    rig.submit(*[created(payload=random.Random(n).randbytes(size_bytes)) for n in range(PART_LEN)])

    assert [counting.taken(rig, album)[0] for _ in range(2)] == [PART_LEN, PART_LEN]


def test_parts_are_never_less_than_half_full_but_for_the_last() -> None:
    rig, counting = Rig(), Counting()
    album = Album(counting.pack)
    for _ in range(9):
        many(rig, PART_LEN // 4)
        counting.taken(rig, album)

    # Before them the head and the request ids.
    assert len(list(album.parts(Picture(rig.book)))) == 1 + 1 + 5


def test_when_the_last_slice_is_taken_changes_cost_nothing_more() -> None:
    rig = Rig()
    task = rig.granted()
    assert packed(rig)
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


def test_each_field_of_a_task_is_stored_or_derived() -> None:
    # A field that is forgotten here would be lost with the first restart.
    assert set(snapshot.STORED) | snapshot.DERIVED == set(Task.__slots__)
    assert not set(snapshot.STORED) & snapshot.DERIVED
