from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Payload
from services.kernel import limits
from services.kernel.errors import InvalidArgument
from services.task_scheduler.servicer.parts import by_ids, in_order_of

pb = task_scheduler_pb2


def asked(parts: Sequence[tuple[int, Any]]) -> dict[int, list[str]]:
    return {number: list(part.task_ids) for number, part in parts}


def test_each_partition_is_asked_for_its_own_and_none_as_of_one_task_alone() -> None:
    request = pb.CancelTasksRequest(task_ids=["02-c", "01-a", "02-d"], reason="why")

    parts = by_ids(request, 4)

    assert asked(parts) == {1: ["01-a", "01-a"], 2: ["02-c", "02-d"]}
    assert {part.reason for _, part in parts} == {"why"}


def test_a_call_about_one_partition_goes_there_as_it_is() -> None:
    alone = pb.CancelTasksRequest(task_ids=["02-c"])

    assert asked(by_ids(alone, 4)) == {2: ["02-c"]}


@pytest.mark.parametrize(
    "request_",
    [
        pb.CancelTasksRequest(task_ids=[f"0{n % 2}-{n}" for n in range(limits.batch_len_max + 1)]),
        pb.RequeueTasksRequest(task_ids=["01-a", "02-b"], payload=Payload(data=b"new")),
    ],
)
def test_what_is_wrong_with_the_whole_is_not_hidden_by_parting_it(request_: Any) -> None:
    assert [part for _, part in by_ids(request_, 4)] == [request_]


def test_what_is_no_id_is_refused_before_any_partition_is_asked() -> None:
    with pytest.raises(InvalidArgument) as refused:
        by_ids(pb.PauseTasksRequest(task_ids=["00-a", "01-b", "03-NONE"]), 4)

    assert refused.value.reason == "INVALID_FIELD"


def test_ids_come_back_in_the_order_of_the_call() -> None:
    request = pb.CancelTasksRequest(task_ids=["02-c", "01-a", "02-d", "01-a"])

    assert in_order_of(request, ["01-a", "02-d", "02-c"]) == ["02-c", "01-a", "02-d"]
