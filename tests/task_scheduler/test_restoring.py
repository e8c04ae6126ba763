from __future__ import annotations

import pytest

from services.kernel.errors import FailedPrecondition
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.core import snapshot
from services.task_scheduler.core.event import Terms
from services.task_scheduler.core.states import State
from tests.task_scheduler.rig import Rig, created
from tests.task_scheduler.test_snapshot import packed, restored


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
