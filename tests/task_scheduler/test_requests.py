from __future__ import annotations

from services.task_scheduler.core.ids import Ids
from services.task_scheduler.core.requests import HORIZON_MS, RequestIds, Seen


def seen(wall_ms: int, spec_hash: bytes = b"h") -> Seen:
    return Seen(Ids().make(wall_ms), spec_hash)


def test_an_id_is_remembered_for_a_day_and_no_longer() -> None:
    ids = RequestIds(10)
    ids.add("me", "q", seen(1_000))

    assert ids.find("me", "q", 1_000 + HORIZON_MS) == seen(1_000)
    assert ids.find("me", "q", 1_001 + HORIZON_MS) is None


def test_ids_of_different_callers_are_different() -> None:
    ids = RequestIds(10)
    ids.add("me", "q", seen(0))

    assert ids.find("you", "q", 0) is None
    assert ids.find("m", "eq", 0) is None


def test_the_oldest_go_when_the_table_is_full() -> None:
    ids = RequestIds(2)
    for n in range(3):
        ids.add("me", f"q{n}", seen(n))

    assert len(ids) == 2
    assert ids.find("me", "q0", 3) is None
    assert ids.find("me", "q2", 3) is not None


def test_forgetting_drops_only_what_is_older_than_a_day() -> None:
    ids = RequestIds(10)
    ids.add("me", "old", seen(0))
    ids.add("me", "new", seen(500))

    ids.forget(HORIZON_MS + 1)

    assert list(ids.items().values()) == [seen(500)]
