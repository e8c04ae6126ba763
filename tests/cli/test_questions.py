from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from podium.v1.task_pb2 import Payload
from tests.cli.shell import Shell
from tests.sdk.fakes import scheduler_of, serving
from tests.sdk.test_questions import Asking


@pytest.fixture
async def podium() -> AsyncIterator[Shell]:
    scheduler = Asking()
    scheduler.tasks["t1"].input_request.CopyFrom(
        Payload(content_type="text/plain", data=b"Which colour?")
    )
    async with serving(scheduler_of(scheduler)) as address:
        yield Shell({"PODIUM_TASK_SCHEDULER_ADDRESS": address}, scheduler)


async def test_the_question_that_was_shown_is_the_one_that_is_answered(podium: Shell) -> None:
    shown = await podium("get", "t1")
    answered = await podium("answer", "t1", "green", "--question", "7")

    assert "Which colour?" in shown.out
    assert re.search(r"number\s+7\b", shown.out)
    assert answered.code == 0
    assert set(podium.scheduler.answers) == {("t1", b"green", 7)}
