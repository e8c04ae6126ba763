from __future__ import annotations

import pytest

from podium.v1 import task_scheduler_pb2
from services.kernel.errors import InvalidArgument
from services.kernel.pages import encode_token
from services.task_scheduler.servicer.merging import Tokens, requeued

KEY = b"k" * 32
pb = task_scheduler_pb2


def at(position: str) -> str:
    return encode_token(position, b"filter", KEY)


def test_partitions_of_which_nothing_is_left_are_not_asked_again() -> None:
    tokens = Tokens(b"filter", KEY)
    assert tokens.of("", [0, 1, 2]) == {0: "", 1: "", 2: ""}

    token = tokens.after([0, 1, 2], [at("17-90"), "", at("00-0-1")])

    assert tokens.of(token, [0, 1, 2]) == {0: at("17-90"), 2: at("00-0-1")}
    assert tokens.after([0, 2], ["", ""]) == ""
    with pytest.raises(InvalidArgument):
        Tokens(b"another", KEY).of(token, [0, 1, 2])


def test_refusals_of_all_partitions_are_added_up_by_reason() -> None:
    full = pb.RequeueRefusal(reason="BACKLOG_FULL", message="one", count=2)
    answers = [
        pb.RequeueTasksResponse(task_ids=["a"], refusals=[full]),
        pb.RequeueTasksResponse(
            task_ids=["b"], refusals=[full, pb.RequeueRefusal(reason="OTHER", count=1)]
        ),
    ]

    whole = requeued(answers)

    assert list(whole.task_ids) == ["a", "b"]
    assert [(row.reason, row.message, row.count) for row in whole.refusals] == [
        ("BACKLOG_FULL", "one", 4),
        ("OTHER", "", 1),
    ]
