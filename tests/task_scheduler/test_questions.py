"""A question has a number, so that an answer that comes twice does not answer the next one."""

from __future__ import annotations

import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Payload, Task
from services.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from services.task_scheduler.core.states import State
from services.task_scheduler.core.task import ANSWERS_LEN_MAX
from tests.support.waiting import eventually
from tests.task_scheduler.rig import Rig
from tests.task_scheduler.serving import Report, Router, Served, lease, refusal, spec
from tests.task_scheduler.test_snapshot import packed, restored


def ask(rig: Rig, task) -> int:
    """Let an agent ask; return the number of the question."""
    rig.grants()
    rig.start(task)
    rig.core.outcomes.asked("r1", rig.lease(task), "a1", b"which?", None, rig.now)
    rig.take()
    assert task.question_epoch
    return task.question_epoch


def restarted(rig: Rig) -> Rig:
    return rig.restarted()


def from_a_snapshot(rig: Rig) -> Rig:
    return restored(rig, packed(rig))


@pytest.mark.parametrize("again", [lambda rig: rig, restarted, from_a_snapshot])
def test_an_answer_that_comes_twice_does_not_answer_the_next_question(again) -> None:
    rig = Rig()
    task = rig.granted()
    first = ask(rig, task)
    rig.core.control.answer(task, b"yes", rig.now, epoch=first)
    second = ask(rig, task)
    rig = again(rig)
    task = rig.task(task.task_id)
    before_seq = rig.book.seq

    rig.core.control.answer(task, b"yes", rig.now, epoch=first)

    assert (task.state, rig.book.seq) == (State.INPUT_REQUIRED, before_seq)
    with pytest.raises(AlreadyExists) as refused:
        rig.core.control.answer(task, b"no", rig.now, epoch=first)
    assert refused.value.reason == "QUESTION_ANSWERED"
    rig.core.control.answer(task, b"no", rig.now, epoch=second)
    assert (task.state, task.input) == (State.QUEUED, b"no")


def test_a_repeat_is_one_also_when_the_task_has_ended() -> None:
    rig = Rig()
    task = rig.granted()
    question = ask(rig, task)
    rig.core.control.answer(task, b"yes", rig.now, epoch=question)
    rig.grants()
    rig.start(task)
    rig.complete(rig.lease(task))

    rig.core.control.answer(task, b"yes", rig.now, epoch=question)

    assert task.state is State.COMPLETED


@pytest.mark.parametrize("off", [-1, 1])
def test_what_was_never_asked_cannot_be_answered(off: int) -> None:
    rig = Rig()
    rig.running()
    task = rig.granted()
    question = ask(rig, task)

    with pytest.raises(FailedPrecondition) as refused:
        rig.core.control.answer(task, b"yes", rig.now, epoch=question + off)

    assert refused.value.reason == "INPUT_NOT_REQUIRED"
    assert task.state is State.INPUT_REQUIRED


def test_of_many_questions_the_latest_are_remembered() -> None:
    rig = Rig()
    task = rig.granted()
    asked = []
    for _ in range(ANSWERS_LEN_MAX + 1):
        asked.append(ask(rig, task))
        rig.core.control.answer(task, b"yes", rig.now, epoch=asked[-1])

    rig.core.control.answer(task, b"yes", rig.now, epoch=asked[1])
    with pytest.raises(FailedPrecondition):
        rig.core.control.answer(task, b"yes", rig.now, epoch=asked[0])
    assert len(task.answers) == ANSWERS_LEN_MAX


async def test_an_answer_names_the_question_that_the_task_tells(served: Served) -> None:
    async with served.router("work") as router:
        task_id = (await served.submit(spec()))[0]
        first = await _asked(served, router, task_id)
        answer = task_scheduler_pb2.ProvideInputRequest(
            task_id=task_id, input=Payload(data=b"yes"), question_epoch=first
        )
        await served.stub.ProvideInput(answer)
        second = await _asked(served, router, task_id)
        assert second > first

        await served.stub.ProvideInput(answer)

        assert (await served.get(task_id)).state == Task.STATE_INPUT_REQUIRED
        answer.input.data = b"no"
        error = await refusal(served.stub.ProvideInput(answer))
        assert (type(error), error.reason) == (AlreadyExists, "QUESTION_ANSWERED")
        answer.question_epoch = -1
        assert type(await refusal(served.stub.ProvideInput(answer))) is InvalidArgument
        answer.question_epoch = second
        await served.stub.ProvideInput(answer)
        assert (await router.grant()).input.data == b"no"


async def _asked(served: Served, router: Router, task_id: str) -> int:
    grant = await router.grant()
    await router.start(grant)
    asked = task_scheduler_pb2.AttemptNeedsInput(
        lease=lease(grant), agent_id="a1", question=Payload(data=b"which?")
    )
    await router.say(Report(needs_input=asked))

    async def asks() -> bool:
        return (await served.get(task_id)).state == Task.STATE_INPUT_REQUIRED

    await eventually(asks)
    return (await served.get(task_id)).question_epoch
