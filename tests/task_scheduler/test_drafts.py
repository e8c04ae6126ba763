"""What bad input gets: the precise code, reason and field, and nothing taken in."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from podium.v1 import task_pb2, task_scheduler_pb2
from podium.v1.task_pb2 import Payload, RetryPolicy, TaskFilter, TaskSpec
from services.kernel.auth import ANONYMOUS
from services.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PodiumError
from services.task_scheduler.adapters.codec import ProtoCodec
from services.task_scheduler.core.admission import Draft
from services.task_scheduler.servicer.drafts import Defaults, Drafter
from tests.task_scheduler.serving import WITHIN_S, Served, refusal, spec

UNKNOWN = "00-000000000000-0000000000"

NOW = 1_700_000_000
FAR = Timestamp(seconds=4_000_000_000)


def many(count: int) -> list[TaskSpec]:
    return [spec() for _ in range(count)]


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"task_type": ""}, "type"),
    ({"task_type": "Upper"}, "type"),
    ({"task_type": "a" * 65}, "type"),
    ({"task_type": "nul\0"}, "type"),
    ({"task_type": "any*"}, "type"),
    ({"priority": -5}, "priority"),
    ({"priority": 10}, "priority"),
    ({"priority": 2**31 - 1}, "priority"),
    ({"required_capabilities": [""]}, "required_capabilities[0]"),
    ({"required_capabilities": ["*"]}, "required_capabilities[0]"),
    ({"required_capabilities": [f"c{n}" for n in range(65)]}, "required_capabilities"),
    ({"preferred_capabilities": ["A"]}, "preferred_capabilities[0]"),
    ({"labels": {str(n): "" for n in range(33)}}, "labels"),
    ({"labels": {"a": "x" * 257}}, "labels[a]"),
    ({"labels": {"a": "\u202eevil"}}, "labels[a]"),
    ({"request_id": "x" * 65}, "request_id"),
    ({"request_id": "../x"}, "request_id"),
    ({"tenant": "a b"}, "tenant"),
    ({"traceparent": "00-zz"}, "traceparent"),
    ({"size_hint": float("nan")}, "size_hint"),
    ({"size_hint": float("inf")}, "size_hint"),
    ({"size_hint": -1.0}, "size_hint"),
    ({"retry_policy": RetryPolicy(max_retries=101)}, "retry_policy.max_retries"),
    ({"retry_policy": RetryPolicy(max_retries=-1)}, "retry_policy.max_retries"),
    ({"retry_policy": RetryPolicy(jitter=1.5)}, "retry_policy.jitter"),
    ({"retry_policy": RetryPolicy(backoff_multiplier=0.5)}, "retry_policy.backoff_multiplier"),
    (
        {"retry_policy": RetryPolicy(initial_backoff=Duration(seconds=-1))},
        "retry_policy.initial_backoff",
    ),
    ({"attempt_timeout": Duration(seconds=-1)}, "attempt_timeout"),
    ({"attempt_timeout": Duration(seconds=1, nanos=-1)}, "attempt_timeout"),
    ({"deadline": Timestamp(seconds=NOW)}, "deadline"),
    ({"deadline": Timestamp()}, "deadline"),
    ({"deadline": FAR}, "deadline"),
    ({"deadline": Timestamp(seconds=-1)}, "deadline"),
    ({"not_before": FAR}, "not_before"),
    ({"not_before": Timestamp(seconds=1, nanos=2_000_000_000)}, "not_before"),
    ({"budget": task_pb2.Budget(max_cost=float("nan"))}, "budget.max_cost"),
    ({"budget": task_pb2.Budget(max_tokens=-1)}, "budget.max_tokens"),
    ({"depends_on": ["no/id"]}, "depends_on[0]"),
    ({"depends_on": [UNKNOWN] * 65}, "depends_on"),
    ({"dependency_policy": 77}, "dependency_policy"),
    ({"sticky_key": "k" * 129}, "sticky_key"),
    ({"parent_task_id": "no/id"}, "parent_task_id"),
    ({"concurrency_keys": ["k"] * 5}, "concurrency_keys"),
    ({"payload": Payload(content_type="a\nb")}, "payload.content_type"),
]


@pytest.mark.parametrize(("parts", "path"), INVALID)
async def test_a_bad_task_is_refused_by_field_and_none_of_its_batch_is_taken(
    wired: Served, parts: dict[str, Any], path: str
) -> None:
    error = await refusal(wired.submit(spec(), spec(**parts)))

    assert (type(error), error.reason) == (InvalidArgument, "INVALID_FIELD")
    assert error.violations[0].field == f"tasks[1].{path}"
    assert (await wired.stub.ListTasks(task_scheduler_pb2.ListTasksRequest())).tasks == []


def test_a_repeat_is_known_for_one_also_after_its_deadline() -> None:
    drafter = Drafter(ProtoCodec(), Defaults(max_retries=3))

    def draft(now_s: int) -> Draft:
        asked = spec(request_id="once", deadline=Timestamp(seconds=NOW + 60))
        return drafter.drafts([asked], "", ANONYMOUS, now_s * 1000).drafts[0]

    assert draft(NOW + 3_600).created.spec_hash == draft(NOW).created.spec_hash


REFUSED: list[tuple[str, Any, type[PodiumError], str]] = [
    ("SubmitTasks", {}, InvalidArgument, "INVALID_FIELD"),
    ("SubmitTasks", {"tasks": many(1_001)}, InvalidArgument, "BATCH_TOO_LARGE"),
    ("SubmitTasks", {"tasks": many(1), "submitter_id": "a b"}, InvalidArgument, "INVALID_FIELD"),
    (
        "SubmitTasks",
        {"tasks": [spec(payload=Payload(data=bytes(256 * 1024 + 1)))]},
        InvalidArgument,
        "PAYLOAD_TOO_LARGE",
    ),
    ("SubmitTasks", {"tasks": [spec(fail_fast=True)]}, FailedPrecondition, "UNSCHEDULABLE"),
    ("SubmitTasks", {"tasks": [spec(depends_on=[UNKNOWN])]}, NotFound, "DEPENDENCY_NOT_FOUND"),
    ("GetTask", {"task_id": UNKNOWN}, NotFound, "TASK_NOT_FOUND"),
    ("GetTask", {}, InvalidArgument, "INVALID_FIELD"),
    ("GetTask", {"task_id": "a\0"}, InvalidArgument, "INVALID_FIELD"),
    (
        "GetTask",
        {"task_id": UNKNOWN, "wait": Duration(seconds=61)},
        InvalidArgument,
        "INVALID_FIELD",
    ),
    ("ListTasks", {"page_size": -1}, InvalidArgument, "INVALID_FIELD"),
    ("ListTasks", {"page_token": "forged"}, InvalidArgument, "PAGE_TOKEN_INVALID"),
    ("ListTasks", {"filter": TaskFilter(states=[0])}, InvalidArgument, "INVALID_FIELD"),
    ("ListTasks", {"filter": TaskFilter(states=[99])}, InvalidArgument, "INVALID_FIELD"),
    ("ListTasks", {"filter": TaskFilter(agent_id="A!")}, InvalidArgument, "INVALID_FIELD"),
    ("CancelTasks", {}, InvalidArgument, "INVALID_FIELD"),
    ("CancelTasks", {"task_ids": [UNKNOWN]}, NotFound, "TASK_NOT_FOUND"),
    ("CancelTasks", {"task_ids": [UNKNOWN] * 1_001}, InvalidArgument, "INVALID_FIELD"),
    (
        "CancelTasks",
        {"task_ids": [UNKNOWN], "filter": TaskFilter(type="a")},
        InvalidArgument,
        "INVALID_FIELD",
    ),
    ("CancelTasks", {"task_ids": [UNKNOWN], "reason": "a\0"}, InvalidArgument, "INVALID_FIELD"),
    ("RequeueTasks", {"task_ids": [UNKNOWN]}, NotFound, "TASK_NOT_FOUND"),
    (
        "RequeueTasks",
        {"filter": TaskFilter(type="a"), "payload": Payload()},
        InvalidArgument,
        "INVALID_FIELD",
    ),
    ("ProvideInput", {"task_id": UNKNOWN}, NotFound, "TASK_NOT_FOUND"),
    (
        "ProvideInput",
        {"task_id": UNKNOWN, "input": Payload(data=bytes(256 * 1024 + 1))},
        InvalidArgument,
        "PAYLOAD_TOO_LARGE",
    ),
    ("ExplainTask", {"task_id": UNKNOWN}, NotFound, "TASK_NOT_FOUND"),
]


@pytest.mark.parametrize(("method", "parts", "kind", "reason"), REFUSED)
async def test_a_bad_request_gets_its_precise_answer(
    wired: Served, method: str, parts: dict[str, Any], kind: type[PodiumError], reason: str
) -> None:
    request = getattr(task_scheduler_pb2, f"{method}Request")(**parts)

    error = await refusal(getattr(wired.stub, method)(request, timeout=WITHIN_S))

    assert (type(error), error.reason) == (kind, reason)
    assert error.message.endswith(".")
