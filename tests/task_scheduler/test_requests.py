from __future__ import annotations

from pathlib import Path

from podium.sdk import keys
from services.task_scheduler.adapters.plain import pack, unpack
from services.task_scheduler.core import requests
from services.task_scheduler.core.ids import Ids
from services.task_scheduler.core.limits import Limits
from services.task_scheduler.core.requests import (
    HORIZON_MS,
    RETRY_HORIZON_MS,
    RETRY_PREFIX,
    RequestIds,
    Seen,
    Table,
)
from services.task_scheduler.core.restoring import Restoring
from services.task_scheduler.core.scheduler import Scheduler
from services.task_scheduler.core.snapshot import Album, Picture
from tests.support.waiting import eventually
from tests.task_scheduler.rig import Rig, created, facts, rows
from tests.task_scheduler.serving import in_process, spec

OWN = f"{RETRY_PREFIX}0123-1"


def seen(wall_ms: int, spec_hash: bytes = b"h") -> Seen:
    return Seen(Ids().make(wall_ms), spec_hash)


def table(chosen: int = 10, retries: int = 10) -> RequestIds:
    return RequestIds(chosen, retries)


def all_of(one: Table) -> list[Seen]:
    """Return what the ids of a table stand for, oldest first."""
    return [Seen(*row[1:]) for row in rows(one)]


def submit(rig: Rig, request_id: str) -> str:
    return rig.submit(created(request_id=request_id, spec_hash=b"h"))[0]


def restored(rig: Rig, limits: Limits, drop: str = "") -> Rig:
    """Return a core that begins with a snapshot of this one's; `drop` is left out of its parts."""
    again = Rig(limits, router="")
    again.core = Scheduler(limits, lambda: 0.5)
    again.now = rig.now
    restoring = Restoring(again.book, again.now)
    for part in map(unpack, Album(pack).parts(Picture(rig.book))):
        restoring.add({name: value for name, value in part.items() if name != drop})
    restoring.finish()
    return again


def test_an_id_is_remembered_for_a_day_and_no_longer() -> None:
    ids = table()
    ids.add("me", "q", seen(1_000), 1_000)

    assert ids.find("me", "q", 1_000 + HORIZON_MS) == seen(1_000)
    assert ids.find("me", "q", 1_001 + HORIZON_MS) is None


def test_an_id_that_a_client_made_for_its_repeats_is_remembered_for_minutes() -> None:
    ids = table()
    ids.add("me", OWN, seen(1_000), 1_000)

    assert ids.find("me", OWN, 1_000 + RETRY_HORIZON_MS) == seen(1_000)
    assert ids.find("me", OWN, 1_001 + RETRY_HORIZON_MS) is None


def test_clients_and_schedulers_mean_the_same_ids() -> None:
    assert keys.RETRY_PREFIX == RETRY_PREFIX
    web = Path(__file__).parents[2] / "clients/web/src/podium.ts"
    assert f'RETRY_PREFIX = "{RETRY_PREFIX}"' in web.read_text()


def test_ids_of_different_callers_are_different() -> None:
    ids = table()
    ids.add("me", "q", seen(0), 0)

    assert ids.find("you", "q", 0) is None
    assert ids.find("m", "eq", 0) is None


def test_the_oldest_go_when_the_table_is_full_and_are_counted_with_their_age() -> None:
    ids = table(chosen=2)
    for n in range(4):
        ids.add("me", f"q{n}", seen(n * 1_000), n * 1_000)

    assert len(ids.chosen) == 2
    assert ids.find("me", "q1", 3_000) is None
    assert ids.find("me", "q2", 3_000) is not None
    assert (ids.chosen.pushed_out, ids.chosen.kept_ms) == (2, 2_000)


def test_those_that_clients_made_push_out_none_that_a_caller_chose() -> None:
    ids = table(chosen=1, retries=3)
    ids.add("me", "order-7", seen(0), 0)
    for n in range(100):
        ids.add("me", f"{OWN}{n}", seen(n), n)

    assert ids.find("me", "order-7", 100) == seen(0)
    assert (len(ids.chosen), len(ids.retries)) == (1, 3)
    assert (ids.chosen.pushed_out, ids.retries.pushed_out) == (0, 97)


def test_what_was_too_old_to_be_found_is_not_counted_as_pushed_out() -> None:
    ids = table(chosen=1)
    ids.add("me", "old", seen(0), 0)
    ids.add("me", "new", seen(HORIZON_MS + 1), HORIZON_MS + 1)

    assert (ids.chosen.pushed_out, ids.chosen.kept_ms) == (0, HORIZON_MS)


def test_forgetting_drops_only_what_is_older_than_its_time() -> None:
    ids = table()
    for at_ms in (0, 500):
        ids.add("me", f"at-{at_ms}", seen(at_ms), at_ms)
        ids.add("me", f"{OWN}{at_ms}", seen(at_ms), at_ms)

    ids.forget(RETRY_HORIZON_MS + 1)
    assert (len(ids.chosen), len(ids.retries)) == (2, 1)

    ids.forget(HORIZON_MS + 1)
    assert all_of(ids.chosen) == [seen(500)]


def test_when_ids_reach_their_whole_time_again_that_is_told() -> None:
    ids = table(chosen=1)
    for n in range(2):
        ids.add("me", f"q{n}", seen(n), n)
    assert ids.chosen.kept_ms == 1

    ids.forget(HORIZON_MS + 2)

    assert ids.chosen.kept_ms == HORIZON_MS


def test_an_old_id_that_is_used_anew_holds_up_nothing_behind_it() -> None:
    ids = table()
    ids.add("me", "again", seen(0), 0)
    ids.add("me", "behind", seen(1), 1)
    later_ms = HORIZON_MS + 100
    ids.add("me", "again", seen(later_ms), later_ms)

    ids.forget(later_ms)

    assert all_of(ids.chosen) == [seen(later_ms)]


def test_a_snapshot_that_is_under_way_sees_ids_as_they_were(monkeypatch) -> None:
    monkeypatch.setattr(requests, "BLOCK_LEN", 2)
    ids = table(chosen=3)
    for n in range(3):
        ids.add("me", f"q{n}", seen(n), n)
    stretches = ids.chosen.stretches()

    later_ms = HORIZON_MS + 1
    for request_id in ("q0", "new", "newer"):  # the first one anew, and all the others go
        ids.add("me", request_id, seen(later_ms), later_ms)

    taken = [Seen(*row[1:]) for stretch in stretches for row in stretch.taken()]
    assert taken == [seen(0), seen(1), seen(2)]
    assert all_of(ids.chosen) == [seen(later_ms)] * 3


def test_a_restored_table_keeps_to_its_bound_and_drops_the_oldest() -> None:
    rig = Rig()
    first = [submit(rig, f"q{n}") for n in range(4)]
    own = [submit(rig, f"{OWN}{n}") for n in range(4)]

    again = restored(rig, Limits(request_ids_len_max=2, retry_ids_len_max=3))

    assert [len(each) for each in again.book.requests] == [2, 3]
    assert [submit(again, f"q{n}") == first[n] for n in (2, 3)] == [True, True]
    assert [submit(again, f"{OWN}{n}") == own[n] for n in (1, 2, 3)] == [True, True, True]
    assert submit(again, "q0") != first[0]


def test_both_kinds_outlive_a_restart_by_snapshot_and_by_log() -> None:
    rig = Rig()
    mine, own = submit(rig, "order-7"), submit(rig, OWN)

    for again in (rig.restarted(), restored(rig, rig.limits)):
        assert facts(again.core)["requests"] == facts(rig.core)["requests"]
        assert (submit(again, "order-7"), submit(again, OWN)) == (mine, own)


def test_a_snapshot_of_a_version_with_one_table_loses_no_id() -> None:
    rig = Rig()
    mine, own = submit(rig, "order-7"), submit(rig, OWN)

    again = restored(rig, rig.limits, drop="kind")

    assert (submit(again, "order-7"), submit(again, OWN)) == (mine, own)


def test_a_recovery_counts_nothing_twice_and_drops_what_grew_old() -> None:
    rig = Rig(Limits(request_ids_len_max=1))
    for request_id in ("a", "b", OWN):
        submit(rig, request_id)
    again = rig.restarted(down_s=RETRY_HORIZON_MS / 1000 + 1)
    assert again.book.requests.chosen.pushed_out == 1

    again.core.start(again.now)

    assert [len(each) for each in again.book.requests] == [1, 0]
    assert again.book.requests.chosen.pushed_out == 0


async def test_an_id_that_is_pushed_out_before_its_day_is_warned_of(tmp_path: Path, caplog) -> None:
    async with in_process(tmp_path, request_ids_max=2, retry_ids_max=1) as served:
        await served.submit(*[spec(request_id=f"{OWN}{n}") for n in range(5)])
        await served.submit(*[spec(request_id=f"q{n}") for n in range(5)])

        await eventually(lambda: "3 request ids were forgotten before 24 hours" in caplog.text)
