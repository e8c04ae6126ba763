"""Which question an answer is for, judged as a scheduler does."""

from __future__ import annotations

from podium.sdk.errors import AlreadyExists, FailedPrecondition
from podium.sdk.testing.entries import Entry
from podium.v1 import task_pb2


def answered(entry: Entry, answer: task_pb2.Payload, question: int) -> bool:
    """Tells whether a question has this answer already; 0 = what is asked now.

    Raises:
        FailedPrecondition: INPUT_NOT_REQUIRED, it does not ask this.
        AlreadyExists: QUESTION_ANSWERED, by another answer.
    """
    known = entry.answers.get(question)
    if known is not None:
        if known != answer:
            raise AlreadyExists(
                "QUESTION_ANSWERED",
                f"what {entry.task_id} asked under lease {question} has another answer",
            )
        return True
    if entry.state != "INPUT_REQUIRED" or question not in (0, entry.lease_epoch):
        what = f"what was asked under lease {question}" if question else "anything"
        raise FailedPrecondition(
            "INPUT_NOT_REQUIRED",
            f"{entry.task_id} does not wait for the answer to {what}: it is {entry.state}",
        )
    return False
