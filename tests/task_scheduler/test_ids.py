from __future__ import annotations

import re

from services.task_scheduler.core.ids import Ids


def test_an_id_tells_partition_and_time() -> None:
    task_id = Ids(partition=10).make(1_700_000_000_000)

    assert task_id == "0a-018bcfe56800-0000000000"
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", task_id)


def test_ids_grow_also_when_the_clock_steps_back() -> None:
    ids = Ids()

    made = [ids.make(ms) for ms in (5, 5, 4, 6, 6, 1)]

    assert made == sorted(set(made))


def test_ids_go_on_behind_those_of_the_log() -> None:
    before, after = Ids(), Ids()
    logged = [before.make(9), before.make(9)]
    for task_id in logged:
        after.seen(task_id)

    assert after.make(9) > logged[-1]
    assert after.make(3) > logged[-1]


def test_a_millisecond_never_runs_out_of_ids() -> None:
    ids = Ids()
    ids.seen(f"00-{7:012x}-{(1 << 40) - 1:010x}")

    assert ids.make(7) == f"00-{8:012x}-{0:010x}"
