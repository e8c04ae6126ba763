"""What each bad input about tasks gets: this code and this reason, and nothing is taken in.

The numbers are those of the list of bad input that the suite is held to. Rows whose code is OK are
the look-alikes: what must be taken in beside what must not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import task_pb2
from podium.v1.task_pb2 import Budget, Payload, RateLimit, RetryPolicy
from services.kernel.rpc import from_rpc_error
from services.task_scheduler.config import Numbers
from tests.task_scheduler.misuse import (
    UNKNOWN,
    Case,
    Row,
    above_rate,
    answer_of_another_tenant,
    call,
    duplicates_once,
    ends,
    fan_out,
    forged_page,
    generations,
    nobody_can,
    of_another_tenant,
    outside_grants,
    page_of_another_tenant,
    priority_2_to_31,
    task,
    twice,
    unknown_field,
)
from tests.task_scheduler.serving import spec, wire

CENTURY_S = 100 * 365 * 86_400
ACCEPTED, DUPLICATE, FENCED, REFUSED, CONFLICT, UNKNOWN_LEASE = 1, 2, 3, 4, 5, 6
INVALID = ("INVALID_ARGUMENT", "INVALID_FIELD")
EXHAUSTED = "RESOURCE_EXHAUSTED"
CENTURY = Duration(seconds=CENTURY_S)
MINUTE = Duration(seconds=60)
SPANS = {
    "negative": Duration(seconds=-1),
    "negative nanos": Duration(nanos=-1),
    "nanos out of range": Duration(seconds=1, nanos=1_000_000_000),
    "signs that differ": Duration(seconds=1, nanos=-1),
    "a century": Duration(seconds=CENTURY_S),
    "no year has it": Duration(seconds=1 << 62),
}
KEYED = spec(request_id="key-1")


def rate(**parts: Any) -> RateLimit:
    return RateLimit(**{"key": "k", "limit": 1, "period": MINUTE, **parts})


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
    Row("B30", "resume", of_another_tenant("ResumeTasks"), "NOT_FOUND", "TASK_NOT_FOUND"),
    Row("B30", "explain", of_another_tenant("ExplainTask"), "NOT_FOUND", "TASK_NOT_FOUND"),
    Row("B30", "answer", answer_of_another_tenant, "NOT_FOUND", "TASK_NOT_FOUND"),
    Row("B30", "requeue", of_another_tenant("RequeueTasks"), "NOT_FOUND", "TASK_NOT_FOUND"),
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
    bad("B35", "nanos", "deadline", deadline=Timestamp(seconds=1_700_000_000, nanos=10**9)),
    bad("B35", "negative nanos", "deadline", deadline=Timestamp(seconds=1_700_000_000, nanos=-1)),
    bad("B35", "before 1970", "deadline", deadline=Timestamp(seconds=-1)),
    bad("B35", "no year has it", "deadline", deadline=Timestamp(seconds=1 << 62)),
    *[
        Row(
            *("B35", f"requeue, {what}"),
            call("RequeueTasks", task_ids=[UNKNOWN], deadline=deadline),
            *(*INVALID, "deadline"),
        )
        for what, deadline in {
            "past": Timestamp(seconds=1_700_000_000),
            "in a century": Timestamp(seconds=1_700_000_000 + CENTURY_S),
            "nanos": Timestamp(seconds=1_700_000_000, nanos=10**9),
            "before 1970": Timestamp(seconds=-1),
        }.items()
    ],
    bad("B35", "negative", "attempt_timeout", attempt_timeout=Duration(seconds=-1)),
    bad("B35", "nanos", "not_before", not_before=Timestamp(seconds=1, nanos=1_000_000_000)),
    bad("B35", "nanos", "attempt_timeout", attempt_timeout=Duration(nanos=1_000_000_000)),
    *[
        bad("B35", f"{field}, {what}", field, **{field: span})
        for field in ("deadline_after", "delay")
        for what, span in SPANS.items()
    ],
    bad("B35", "expires at once", "deadline_after", deadline_after=Duration()),
    bad(
        *("B35", "both deadlines", "deadline_after"),
        **{"deadline": Timestamp(seconds=4_000_000_000), "deadline_after": Duration(seconds=1)},
    ),
    bad("B35", "both delays", "delay", not_before=Timestamp(seconds=1), delay=Duration(seconds=1)),
    bad("B35", "only expires", "delay", delay=MINUTE, deadline_after=MINUTE),
    Row("B35", "a delay of nothing", task(delay=Duration(), deadline_after=MINUTE), "OK"),
    Row("B35", "as far as may be", task(delay=Duration(seconds=366 * 86_400)), "OK"),
    bad("rate", "no key", "rate_limits[0].key", rate_limits=[rate(key="")]),
    bad("rate", "none may start", "rate_limits[0].limit", rate_limits=[rate(limit=0)]),
    bad("rate", "too many", "rate_limits[0].limit", rate_limits=[rate(limit=1_000_001)]),
    bad("rate", "no time", "rate_limits[0].period", rate_limits=[rate(period=Duration())]),
    bad("rate", "a century", "rate_limits[1].period", rate_limits=[rate(), rate(period=CENTURY)]),
    bad("rate", "twice", "rate_limits[1]", rate_limits=[rate(), rate(limit=2)]),
    bad("rate", "five", "rate_limits", rate_limits=[rate(key=f"k{n}") for n in range(5)]),
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
