from __future__ import annotations

from typing import Any

import grpc
import pytest

from podium.v1 import task_pb2, task_scheduler_pb2
from tests.sdk.fakes import FakeScheduler, refuse
from tests.sdk.test_client import connected


class Asking(FakeScheduler):
    """Has a task that asks, and a way back on which the first answer is lost."""

    def __init__(self, *, readable: bool = True) -> None:
        super().__init__()
        self.readable = readable
        self.answers: list[tuple[str, bytes, int]] = []
        self.tasks["t1"] = task_pb2.Task(
            task_id="t1", state=task_pb2.Task.STATE_INPUT_REQUIRED, question_epoch=7
        )

    async def GetTask(self, request: Any, context: Any) -> Any:
        if not self.readable:
            await refuse(context, grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
        return await super().GetTask(request, context)

    async def ProvideInput(self, request: Any, context: Any) -> Any:
        self.answers.append((request.task_id, request.input.data, request.question_epoch))
        self.tasks["t1"].question_epoch += 1  # it asks the next question at once
        if len(self.answers) == 1:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "DRAINING")
        return task_scheduler_pb2.ProvideInputResponse()


@pytest.mark.parametrize(
    ("readable", "question", "sent"), [(True, 0, 7), (True, 5, 5), (False, 0, 0)]
)
async def test_an_answer_names_its_question_however_often_it_is_sent(
    readable: bool, question: int, sent: int
) -> None:
    scheduler = Asking(readable=readable)
    async with connected(scheduler) as client:
        await client.provide_input("t1", "yes", question=question)

    assert scheduler.answers == [("t1", b"yes", sent)] * 2
