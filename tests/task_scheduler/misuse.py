"""What callers do wrong about tasks, to be looked at in `test_bad_input`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import task_scheduler_pb2
from podium.v1.task_pb2 import Payload, Task, TaskSpec
from services.kernel import auth
from services.kernel.auth import Principal
from services.kernel.rpc import from_rpc_error
from tests.task_scheduler.serving import WITHIN_S, Report, Served, lease, spec

UNKNOWN = "00-000000000000-0000000000"
SUBMIT = "/podium.v1.TaskSchedulerService/SubmitTasks"
VARINT_2_TO_31 = b"\x80\x80\x80\x80\x08"


class Case:
    """A scheduler, and who calls it."""

    def __init__(self, served: Served, patch: pytest.MonkeyPatch) -> None:
        self.served = served
        self.stub = served.stub
        self._patch = patch

    def act(self, tenant: str, *roles: str, capabilities: tuple[str, ...] = ()) -> None:
        """Make all calls from here on those of somebody."""
        principal = Principal(tenant, tenant, frozenset(roles), frozenset(capabilities))
        self._patch.setattr(auth, "ANONYMOUS", principal)

    async def submit(self, *specs: TaskSpec) -> list[str]:
        return await self.served.submit(*specs)


Act = Callable[[Case], Awaitable[Any]]


class Row(NamedTuple):
    """What is done, and what it gets."""

    number: str
    what: str
    act: Act
    code: str
    reason: str = ""
    field: str = ""
    """The field or the metadata that says where the fault is."""


def task(**parts: Any) -> Act:
    """Submits a task behind a good one."""
    return lambda case: case.submit(spec(), spec(**parts))


def call(method: str, **parts: Any) -> Act:
    async def act(case: Case) -> Any:
        request = getattr(task_scheduler_pb2, f"{method}Request")(**parts)
        return await getattr(case.stub, method)(request, timeout=WITHIN_S)

    return act


async def priority_2_to_31(case: Case) -> Any:
    # The generated classes do not let it be written; others do.
    raw = spec().SerializeToString() + b"\x28" + VARINT_2_TO_31
    method = case.served.channel.unary_unary(SUBMIT)
    return await method(b"\x0a" + bytes([len(raw)]) + raw, timeout=WITHIN_S)


async def unknown_field(case: Case) -> None:
    unknown = b"\xfa\xf0\x04\x03new"  # field 9999
    raw = spec().SerializeToString() + unknown
    method = case.served.channel.unary_unary(
        SUBMIT, response_deserializer=task_scheduler_pb2.SubmitTasksResponse.FromString
    )
    await method(b"\x0a" + bytes([len(raw)]) + raw, timeout=WITHIN_S)
    request = task_scheduler_pb2.WatchEventsRequest(types=["TYPE_CREATED"])
    async for batch in case.stub.WatchEvents(request, timeout=WITHIN_S):
        if batch.events:
            assert unknown in batch.events[0].created.spec.SerializeToString()
            return


async def duplicates_once(case: Case) -> None:
    await case.submit(spec(required_capabilities=["b", "a", "b"]))
    (needed,) = (await stats(case)).requirements
    assert list(needed.required_capabilities) == ["a", "b"]


async def nobody_can(case: Case) -> None:
    deadline = Timestamp()
    deadline.GetCurrentTime()
    deadline.FromMilliseconds(deadline.ToMilliseconds() + 300)
    (task_id,) = await case.submit(spec(deadline=deadline))
    waiting = await case.served.get(task_id)
    assert (waiting.state, bool(waiting.unschedulable_reason)) == (Task.STATE_QUEUED, True)
    request = task_scheduler_pb2.GetTaskRequest(task_id=task_id, wait=Duration(seconds=5))
    ended = (await case.stub.GetTask(request, timeout=WITHIN_S)).task
    assert ended.state == Task.STATE_EXPIRED


async def outside_grants(case: Case) -> Any:
    case.act("red", "submitter", capabilities=("text.summarize",))
    await case.submit(spec("text.summarize"))
    return await case.submit(spec("text.summarize"), spec("payments.send"))


def told(error: grpc.aio.AioRpcError, task_id: str) -> tuple[str, str, str]:
    """Return what an error says beside the id."""
    found = from_rpc_error(error)
    return found.code, found.reason, found.message.replace(task_id, "")


def of_another_tenant(method: str, **parts: Any) -> Act:
    async def act(case: Case) -> Any:
        case.act("red", "submitter")
        (task_id,) = await case.submit(spec())
        case.act("blue", "submitter", "reader")
        one = method in ("GetTask", "ExplainTask")

        def asked(named: str) -> Awaitable[Any]:
            which = {"task_id": named} if one else {"task_ids": [named]}
            return call(method, **which, **parts)(case)

        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await asked(UNKNOWN)
        with pytest.raises(grpc.aio.AioRpcError) as hidden:
            await asked(task_id)
        assert told(hidden.value, task_id) == told(missing.value, UNKNOWN)
        raise hidden.value

    return act


async def answer_of_another_tenant(case: Case) -> Any:
    case.act("red", "submitter", "service")
    async with case.served.router("work") as router:
        (task_id,) = await case.submit(spec())
        grant = await router.grant()
        await router.start(grant)
        asked = task_scheduler_pb2.AttemptNeedsInput(lease=lease(grant), agent_id="a1")
        await router.say(Report(needs_input=asked))
        await router.next("settled")
    case.act("blue", "submitter", "reader")
    answer = Payload(data=b"yes")
    return await call("ProvideInput", task_id=task_id, input=answer)(case)


def twice(first: TaskSpec, second: TaskSpec, *, same: bool, other_caller: bool = False) -> Act:
    async def act(case: Case) -> None:
        case.act("red", "submitter", "reader")
        before = await case.submit(first)
        durable = (await stats(case)).durable_seq
        if other_caller:
            case.act("blue", "submitter", "reader")
        assert (await case.submit(second) == before) is same
        assert ((await stats(case)).durable_seq == durable) is same

    return act


async def stats(case: Case) -> Any:
    return await case.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())


def ends(*steps: str) -> Act:
    """Lets a router end a task in some way; returns the verdict of the last step."""

    async def act(case: Case) -> int:
        async with case.served.router("work") as router:
            # The first lease of a log has none before it.
            await case.served.run(router)
            await case.submit(spec())
            grant = await router.grant()
            held = lease(grant)
            verdict = 0
            for step in steps:
                if step == "start":
                    await router.start(grant)
                    continue
                if step == "cancel":
                    await case.stub.CancelTasks(
                        task_scheduler_pb2.CancelTasksRequest(task_ids=[grant.task_id])
                    )
                    continue
                ended = task_scheduler_pb2.AttemptEnded(lease=held, agent_id="a1")
                ended.success.data = b"ok"
                if step == "unknown":
                    ended.lease.task_id = UNKNOWN
                elif step == "stale":
                    ended.lease.lease_epoch -= 1
                elif step == "too large":
                    ended.success.data = bytes(257 * 1024)
                elif step == "other":
                    ended.success.data = b"another result"
                await router.say(Report(ended=ended))
                verdict = (await router.next("settled")).settled.verdict
            if step == "too large":
                failed = (await case.served.get(grant.task_id)).failure
                assert failed.reason == "RESULT_TOO_LARGE"
            return verdict

    return act


async def above_rate(case: Case) -> Any:
    await case.submit(spec(tenant="hurried"))
    return await case.submit(*[spec(tenant="hurried")] * 2)


async def forged_page(case: Case) -> Any:
    await case.submit(spec(), spec())
    request = task_scheduler_pb2.ListTasksRequest(page_size=1)
    token = (await case.stub.ListTasks(request)).next_page_token
    return await call("ListTasks", page_size=1, page_token=token[:-2] + "AA")(case)


async def page_of_another_tenant(case: Case) -> Any:
    case.act("red", "submitter", "reader")
    await case.submit(spec(), spec())
    request = task_scheduler_pb2.ListTasksRequest(page_size=1)
    token = (await case.stub.ListTasks(request)).next_page_token
    case.act("blue", "reader")
    return await call("ListTasks", page_size=1, page_token=token)(case)


async def generations(case: Case) -> Any:
    parent = ""
    for _ in range(5):
        (parent,) = await case.submit(spec(parent_task_id=parent))
    return await case.submit(spec(parent_task_id=parent))


async def fan_out(case: Case) -> Any:
    (root,) = await case.submit(spec())
    return await case.submit(*[spec(parent_task_id=root) for _ in range(21)])
