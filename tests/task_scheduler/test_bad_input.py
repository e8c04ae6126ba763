"""What each bad input about tasks gets: this code and this reason, and nothing is taken in.

The numbers are those of the list of bad input that the suite is held to. Rows whose code is OK are
the look-alikes: what must be taken in beside what must not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import task_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Budget, Payload, RetryPolicy, Task, TaskSpec
from services.kernel import auth
from services.kernel.auth import Principal
from services.kernel.rpc import from_rpc_error
from services.task_scheduler.config import Numbers
from tests.task_scheduler.serving import WITHIN_S, Report, Served, lease, spec, wire

UNKNOWN = "00-000000000000-0000000000"
CENTURY_S = 100 * 365 * 86_400
SUBMIT = "/podium.v1.TaskSchedulerService/SubmitTasks"
VARINT_2_TO_31 = b"\x80\x80\x80\x80\x08"
ACCEPTED, DUPLICATE, FENCED, REFUSED, CONFLICT, UNKNOWN_LEASE = 1, 2, 3, 4, 5, 6


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


def of_another_tenant(method: str, **parts: Any) -> Act:
    async def act(case: Case) -> Any:
        case.act("red", "submitter")
        (task_id,) = await case.submit(spec())
        case.act("blue", "submitter", "reader")
        named = {"task_id": task_id} if method == "GetTask" else {"task_ids": [task_id]}
        return await call(method, **named, **parts)(case)

    return act


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


INVALID = ("INVALID_ARGUMENT", "INVALID_FIELD")
EXHAUSTED = "RESOURCE_EXHAUSTED"
KEYED = spec(request_id="key-1")


def bad(number: str, what: str, field: str, **parts: Any) -> Row:
    return Row(number, what, task(**parts), *INVALID, f"tasks[1].{field}")


def bad_id(what: str, task_id: str) -> Row:
    return Row("B24", what, call("GetTask", task_id=task_id), *INVALID, "task_id")


ROWS = [
    bad("B21", "priority -5", "priority", priority=-5),
    bad("B21", "priority 10", "priority", priority=10),
    Row("B21", "priority 2^31", priority_2_to_31, *INVALID, "tasks[0].priority"),
    bad("B22", "unknown policy", "dependency_policy", dependency_policy=77),
    Row(
        *("B22", "unknown state"),
        call("ListTasks", filter=task_pb2.TaskFilter(states=[99])),
        *(*INVALID, "filter.states[0]"),
    ),
    bad("B23", "size NaN", "size_hint", size_hint=float("nan")),
    bad("B23", "size infinite", "size_hint", size_hint=float("inf")),
    bad("B23", "size negative", "size_hint", size_hint=-1.0),
    bad("B23", "cost NaN", "budget.max_cost", budget=Budget(max_cost=float("nan"))),
    bad("B23", "cost negative", "budget.max_cost", budget=Budget(max_cost=-1.0)),
    bad("B23", "jitter NaN", "retry_policy.jitter", retry_policy=RetryPolicy(jitter=float("nan"))),
    bad_id("empty id", ""),
    bad_id("NUL", "a\0b"),
    bad_id("newline", "a\nb"),
    bad_id("path", "../a"),
    bad_id("right to left", "a\u202eb"),
    bad_id("a megabyte", "a" * 1_000_000),
    bad_id("not in normal form", "e\u0301"),
    bad("B25", "10,000 names", "required_capabilities", required_capabilities=["c"] * 10_000),
    bad("B25", "an empty name", "required_capabilities[0]", required_capabilities=[""]),
    bad("B25", "a wildcard", "required_capabilities[0]", required_capabilities=["*"]),
    Row("B25", "a name twice", duplicates_once, "OK"),
    Row("B26", "nobody can do it", nobody_can, "OK"),
    Row("B26", "fail fast", task(fail_fast=True), "FAILED_PRECONDITION", "UNSCHEDULABLE", "1"),
    Row(
        *("B27", "not granted", outside_grants),
        *("PERMISSION_DENIED", "CAPABILITY_NOT_GRANTED", "payments.send"),
    ),
    Row("B30", "get", of_another_tenant("GetTask"), "NOT_FOUND", "TASK_NOT_FOUND"),
    Row("B30", "cancel", of_another_tenant("CancelTasks"), "NOT_FOUND", "TASK_NOT_FOUND"),
    Row("B30", "pause", of_another_tenant("PauseTasks"), "NOT_FOUND", "TASK_NOT_FOUND"),
    Row("B31", "same key, same task", twice(KEYED, KEYED, same=True), "OK"),
    Row(
        *("B32", "same key, other payload"),
        twice(KEYED, spec(request_id="key-1", payload=Payload(data=b"else")), same=True),
        *("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED", "key-1"),
    ),
    Row(
        *("B32", "same key, other priority"),
        twice(KEYED, spec(request_id="key-1", priority=9), same=True),
        *("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED", "key-1"),
    ),
    Row("B33", "same key, other caller", twice(KEYED, KEYED, same=False, other_caller=True), "OK"),
    bad("B34", "a key of 10 KB", "request_id", request_id="k" * 10_240),
    Row("B34", "no key", twice(spec(), spec(), same=False), "OK"),
    bad("B35", "deadline past", "deadline", deadline=Timestamp(seconds=1_700_000_000)),
    bad("B35", "in a century", "deadline", deadline=Timestamp(seconds=1_700_000_000 + CENTURY_S)),
    bad("B35", "negative", "attempt_timeout", attempt_timeout=Duration(seconds=-1)),
    bad("B35", "nanos", "not_before", not_before=Timestamp(seconds=1, nanos=1_000_000_000)),
    bad("B35", "nanos", "attempt_timeout", attempt_timeout=Duration(nanos=1_000_000_000)),
    Row("B36", "unknown lease", ends("start", "unknown"), "OK", field=str(UNKNOWN_LEASE)),
    Row("B36", "stale lease", ends("start", "stale"), "OK", field=str(FENCED)),
    # The lease is live and the work is done: that the start was not reported costs nothing.
    Row("B36", "before start", ends("end"), "OK", field=str(ACCEPTED)),
    Row("B36", "twice", ends("start", "end", "end"), "OK", field=str(DUPLICATE)),
    Row("B36", "twice, another result", ends("start", "end", "other"), "OK", field=str(CONFLICT)),
    Row("B36", "after cancel", ends("start", "cancel", "end"), "OK", field=str(FENCED)),
    Row("B37", "result too large", ends("start", "too large"), "OK", field=str(REFUSED)),
    Row(
        "B37",
        "payload too large",
        task(payload=Payload(data=bytes(256 * 1024 + 1))),
        "INVALID_ARGUMENT",
        "PAYLOAD_TOO_LARGE",
        "1",
    ),
    Row("B40", "above the rate", above_rate, EXHAUSTED, "TENANT_RATE", "hurried"),
    Row(
        *("B41", "batch of 1,001", call("SubmitTasks", tasks=[spec()] * 1_001)),
        *("INVALID_ARGUMENT", "BATCH_TOO_LARGE", "1000"),
    ),
    Row(
        *("B41", "one bad of 100"),
        call("SubmitTasks", tasks=[*[spec()] * 57, spec(priority=11), *[spec()] * 42]),
        *(*INVALID, "tasks[57].priority"),
    ),
    Row("B42", "forged token", forged_page, "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
    Row(
        *("B42", "token of another tenant", page_of_another_tenant),
        *("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
    ),
    Row("B44", "too deep", generations, EXHAUSTED, "LINEAGE_BUDGET"),
    Row("B44", "too many", fan_out, EXHAUSTED, "LINEAGE_BUDGET"),
    Row("B45", "a field of tomorrow", unknown_field, "OK"),
]


@pytest.fixture
async def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Case]:
    limits = {
        "tenant_submits_per_s": Numbers({"hurried": 1.0}.items()),
        "lineage_depth_max": 4,
        "lineage_tasks_max": 20,
    }
    async with wire(tmp_path, **limits) as served:
        yield Case(served, monkeypatch)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number} {row.what}")
async def test_bad_input_gets_its_code_and_reason(case: Case, row: Row) -> None:
    try:
        answer = await row.act(case)
    except grpc.aio.AioRpcError as refused:
        error = from_rpc_error(refused)
        assert (error.code, error.reason) == (row.code, row.reason)
        places = [violation.field for violation in error.violations]
        assert not row.field or row.field in [*places, *error.metadata.values()]
        assert error.message.endswith(".")
        if row.code == EXHAUSTED:
            pushback = dict(refused.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
            hinted = error.retry_after_s is not None and pushback is not None
            assert hinted is (row.number == "B40")
    else:
        assert row.code == "OK"
        assert not row.field or str(answer) == row.field
