"""What is compared does the same work, and the collector is left as it was found."""

from __future__ import annotations

import gc

from podium.v1 import task_scheduler_pb2
from tests.bench import structures


def test_a_message_of_a_pool_is_the_message_that_is_made() -> None:
    (_, fresh), (_, pooled) = structures._messages()

    for _ in range(2):
        assert pooled() == fresh()
    assert task_scheduler_pb2.Grant.FromString(bytes(fresh())).spec.type == "work"  # type: ignore[call-overload]  # made as object


def test_both_queues_give_the_most_urgent_first_and_keep_their_depth() -> None:
    _, turn = structures._sorted_list(100)
    assert [turn()[0] for _ in range(10)] == [9] * 10  # type: ignore[index]  # made as object

    _, turn = structures._ready_queue(100)
    most = turn().terms.priority  # type: ignore[attr-defined]  # made as object
    assert most == 9


def test_the_collector_is_left_as_it_was() -> None:
    before = gc.get_threshold(), gc.isenabled()

    rows = structures.collectors(0.005)

    assert len(rows) == 7 and all(row.value > 0 for row in rows)
    assert (gc.get_threshold(), gc.isenabled()) == before
