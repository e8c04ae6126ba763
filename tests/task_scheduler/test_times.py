"""Times of tasks over the wire."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import TaskSpec
from services.kernel.clock import SystemClock
from services.kernel.errors import AlreadyExists
from tests.task_scheduler.serving import WITHIN_S, Served, refusal, spec


def asked(seconds: int = 60) -> TaskSpec:
    return spec(
        request_id="once", deadline_after=Duration(seconds=seconds), delay=Duration(nanos=1)
    )


async def test_a_repeat_with_spans_is_the_same_task_and_with_others_another(served: Served) -> None:
    first = await served.submit(asked())
    made = (await served.get(first[0])).create_time.ToMilliseconds()
    # Not in the same millisecond, in which even times that are reckoned anew would be equal.
    while SystemClock().now().wall_ms == made:
        pass

    assert await served.submit(asked()) == first
    error = await refusal(served.submit(asked(seconds=61)))
    assert (type(error), error.reason) == (AlreadyExists, "IDEMPOTENCY_KEY_REUSED")


async def test_a_task_its_event_and_its_agent_tell_the_time(served: Served) -> None:
    async with served.router("work") as router:
        (task_id,) = await served.submit(asked())
        granted = (await router.grant()).spec
    task = await served.get(task_id)
    request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)
    created = (await served.stub.ExplainTask(request, timeout=WITHIN_S)).events[0].created.spec

    due_ms = task.create_time.ToMilliseconds() + 60_000
    for told in (task.spec, created, granted):
        assert told.deadline.ToMilliseconds() == due_ms
        assert not told.HasField("deadline_after") and not told.HasField("delay")
