from __future__ import annotations

from typing import Any

from podium.sdk.bulk import canceled_in, ids_in, requeued_in, to_the_end
from podium.v1 import task_scheduler_pb2 as pb


class Answers:
    """Stands for calls: gives answers one by one and keeps the tokens it was asked with."""

    def __init__(self, *answers: Any) -> None:
        self.left = list(answers)
        self.tokens: list[str] = []

    async def unary(self, service: str, method: Any, request: Any) -> Any:
        self.tokens.append(request.page_token)
        return self.left.pop(0)


async def test_a_filter_is_followed_to_its_end_and_tells_how_far_it_is() -> None:
    refusal = pb.RequeueRefusal(reason="BACKLOG_FULL", count=2)
    calls = Answers(
        pb.RequeueTasksResponse(task_ids=["a", "b"], next_page_token="p1", refusals=[refusal]),
        pb.RequeueTasksResponse(next_page_token="p2"),
        pb.RequeueTasksResponse(task_ids=["c"], refusals=[refusal]),
    )
    told: list[int] = []

    answers = await to_the_end(
        calls,  # type: ignore[arg-type]  # all of it that is used
        lambda stubs: None,
        pb.RequeueTasksRequest(),
        told.append,
    )

    assert (calls.tokens, told) == (["", "p1", "p2"], [2, 2, 3])
    assert ids_in(answers) == ["a", "b", "c"]
    done = requeued_in(answers)
    assert done == ["a", "b", "c"]
    assert [(row.reason, row.count) for row in done.refusals] == [("BACKLOG_FULL", 4)]


def test_what_was_canceled_tells_how_many_descended_from_it() -> None:
    answers = [
        pb.CancelTasksResponse(task_ids=["a"], descendant_count=2),
        pb.CancelTasksResponse(task_ids=["b"], descendant_count=1),
    ]

    done = canceled_in(answers)

    assert (done, done.descendant_count) == (["a", "b"], 3)
