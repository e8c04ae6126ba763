from __future__ import annotations

from podium.sdk.batches import BATCH_BYTES_MAX, BATCH_LEN_MAX, batches, relocate
from podium.sdk.errors import InvalidArgument, Violation
from podium.v1.task_pb2 import Payload, TaskSpec


def test_a_batch_holds_what_a_scheduler_accepts_as_a_whole() -> None:
    large = TaskSpec(payload=Payload(data=bytes(BATCH_BYTES_MAX // 4)))

    by_count = [len(batch) for batch in batches([TaskSpec()] * (2 * BATCH_LEN_MAX + 1))]
    by_size = [len(batch) for batch in batches([large] * 6)]

    assert by_count == [BATCH_LEN_MAX, BATCH_LEN_MAX, 1]
    assert by_size == [4, 2]
    assert list(batches([])) == []


def test_an_error_names_the_place_among_all_tasks() -> None:
    error = InvalidArgument(
        "INVALID_FIELD",
        "tasks[3].priority must be 0..9",
        metadata={"index": "3"},
        violations=[Violation("tasks[3].priority", "must be 0..9")],
    )

    relocate(error, 2_000)

    assert error.metadata == {"index": "2003", "submitted_count": "2000"}
    assert error.violations[0].field == "tasks[2003].priority"
    assert str(error) == "tasks[2003].priority must be 0..9"
