"""Nobody learns of another tenant's tasks: they look like tasks that do not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import TaskFilter
from services.kernel import auth
from services.kernel.auth import Principal
from services.kernel.errors import NotFound, PermissionDenied
from tests.task_scheduler.serving import Served, refusal, spec
from tests.task_scheduler.test_watch import EventsRequest, TasksRequest, Watch

Act = Callable[..., None]


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Act:
    """Makes all calls from here on those of somebody."""

    def acting(tenant: str, *roles: str) -> None:
        principal = Principal(f"{tenant}-user", tenant, frozenset(roles), frozenset())
        monkeypatch.setattr(auth, "ANONYMOUS", principal)

    return acting


async def test_a_task_belongs_to_the_tenant_of_its_caller(served: Served, act: Act) -> None:
    act("red", "submitter", "reader")
    task_id = (await served.submit(spec()))[0]

    assert (await served.get(task_id)).spec.tenant == "red"


async def test_submitting_for_another_tenant_needs_an_operator(served: Served, act: Act) -> None:
    act("red", "submitter")
    error = await refusal(served.submit(spec(), spec(tenant="blue")))
    assert (type(error), error.reason) == (PermissionDenied, "ROLE_MISSING")

    act("red", "submitter", "operator")
    assert await served.submit(spec(tenant="blue"))
    # What an operator may is not remembered for others.
    act("red", "submitter")
    assert (await refusal(served.submit(spec(tenant="blue")))).reason == "ROLE_MISSING"


async def test_a_strangers_task_is_as_missing_as_one_that_never_was(
    served: Served, act: Act
) -> None:
    act("red", "submitter")
    task_id = (await served.submit(spec()))[0]
    act("blue", "submitter", "reader")
    stub = served.stub
    calls = [
        stub.GetTask(task_scheduler_pb2.GetTaskRequest(task_id=task_id)),
        stub.ExplainTask(task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)),
        stub.CancelTasks(task_scheduler_pb2.CancelTasksRequest(task_ids=[task_id])),
        stub.RequeueTasks(task_scheduler_pb2.RequeueTasksRequest(task_ids=[task_id])),
        stub.ProvideInput(task_scheduler_pb2.ProvideInputRequest(task_id=task_id)),
    ]

    for call in calls:
        error = await refusal(call)
        assert (type(error), error.reason) == (NotFound, "TASK_NOT_FOUND")


async def test_lists_filters_and_watches_stay_inside_the_tenant(served: Served, act: Act) -> None:
    act("red", "submitter")
    await served.submit(spec(), submitter_id="shared")
    act("blue", "submitter", "reader")
    mine = (await served.submit(spec(), submitter_id="shared"))[0]

    listed = await served.stub.ListTasks(task_scheduler_pb2.ListTasksRequest())
    assert [task.task_id for task in listed.tasks] == [mine]
    for call in (
        served.stub.WatchEvents(EventsRequest(types=[1])),
        served.stub.WatchTasks(TasksRequest(submitter_id="shared", types=[1])),
    ):
        assert [event.task_id for event in await Watch(call).take(1)] == [mine]
    request = task_scheduler_pb2.CancelTasksRequest(filter=TaskFilter(type="work"))
    assert list((await served.stub.CancelTasks(request)).task_ids) == [mine]


async def test_pushed_events_stay_inside_the_tenant(served: Served, act: Act) -> None:
    act("blue", "submitter", "reader")
    watch = Watch(served.stub.WatchTasks(TasksRequest(submitter_id="shared", types=[1])))
    first = (await served.submit(spec(), submitter_id="shared"))[0]
    assert [event.task_id for event in await watch.take(1)] == [first]
    act("red", "submitter")
    await served.submit(spec(), submitter_id="shared")
    act("blue", "submitter", "reader")
    second = (await served.submit(spec(), submitter_id="shared"))[0]

    assert [event.task_id for event in await watch.take(1)] == [second]


async def test_services_see_all(served: Served, act: Act) -> None:
    act("red", "submitter")
    ids = await served.submit(spec())
    act("suite", "service", "reader")

    events = await Watch(served.stub.WatchEvents(EventsRequest(types=[1]))).take(1)
    assert [event.task_id for event in events] == ids
