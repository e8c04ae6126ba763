"""Calls about many tasks: a filter may mean more of them than one call takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from podium.sdk.calls import Calls, Stubs
from podium.v1 import task_scheduler_pb2

Progress = Callable[[int], None]
"""Is told after each call how many tasks it was done to so far."""


class Canceled(list[str]):
    """The ids of the tasks that were canceled, without those that descend from them."""

    def __init__(self, task_ids: Sequence[str], descendant_count: int = 0) -> None:
        super().__init__(task_ids)
        self.descendant_count = descendant_count
        """How many that descend from those that were named were canceled with them."""


class Requeued(list[str]):
    """The ids of the tasks that were requeued, and why others that were meant were not."""

    def __init__(
        self, task_ids: Sequence[str], refusals: Sequence[task_scheduler_pb2.RequeueRefusal] = ()
    ) -> None:
        super().__init__(task_ids)
        self.refusals = list(refusals)
        """A reason each, with how many tasks and, where waiting helps, how long to wait."""


async def to_the_end(
    calls: Calls, method: Callable[[Stubs], Any], request: Any, on_progress: Progress | None
) -> list[Any]:
    """Calls until all that a request means were seen, and returns the answers."""
    answers = []
    done = 0
    while True:
        answer = await calls.unary("task_scheduler", method, request)
        answers.append(answer)
        done += len(answer.task_ids)
        if on_progress is not None:
            on_progress(done)
        if not answer.next_page_token:
            return answers
        request.page_token = answer.next_page_token


def ids_in(answers: Sequence[Any]) -> list[str]:
    """Returns the tasks of some answers."""
    return [task_id for answer in answers for task_id in answer.task_ids]


def canceled_in(answers: Sequence[task_scheduler_pb2.CancelTasksResponse]) -> Canceled:
    """Returns what was canceled in all."""
    return Canceled(ids_in(answers), sum(answer.descendant_count for answer in answers))


def requeued_in(answers: Sequence[task_scheduler_pb2.RequeueTasksResponse]) -> Requeued:
    """Returns what was requeued in all, and the refusals added up by reason."""
    rows: dict[str, task_scheduler_pb2.RequeueRefusal] = {}
    for answer in answers:
        for row in answer.refusals:
            known = rows.setdefault(row.reason, row)
            if known is not row:
                known.count += row.count
    return Requeued(ids_in(answers), list(rows.values()))
