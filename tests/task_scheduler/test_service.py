"""The RPCs, over the wire and in process."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from podium.v1 import task_scheduler_pb2
from podium.v1.session_pb2 import ResultAck
from podium.v1.task_pb2 import Payload, RetryPolicy, Task, TaskFilter, TaskSpec
from services.kernel.errors import (
    BY_CODE,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
)
from services.task_scheduler.loops.commit import Committer
from services.task_scheduler.servicer.service import POLICY
from tests.support.waiting import eventually
from tests.task_scheduler.serving import WITHIN_S, Report, Served, lease, refusal, spec, wire

PROTO = Path(__file__).resolve().parents[2] / "protos/podium/v1/task_scheduler.proto"
UNKNOWN = "00-000000000000-0000000000"


async def test_a_task_goes_its_way(served: Served) -> None:
    async with served.router("work") as router:
        task_id = (await served.submit(spec(priority=7)))[0]
        grant = await router.grant()
        assert (grant.task_id, grant.attempt, grant.spec.priority) == (task_id, 1, 7)
        assert grant.spec.payload.data == b"data"
        settled = await router.complete(grant, b"result")
        assert settled.verdict == 1

        task = await served.get(task_id)

    assert task.state == Task.STATE_COMPLETED
    assert (task.result.data, task.spec.payload.data) == (b"result", b"data")
    assert (task.agent_id, task.attempt_count, len(task.attempts)) == ("a1", 1, 1)
    assert task.create_time.seconds and task.start_time.seconds and task.end_time.seconds


async def test_defaults_are_filled_in(served: Served) -> None:
    filled = (await served.get((await served.submit(TaskSpec(type="work")))[0])).spec

    assert list(filled.required_capabilities) == ["work"]
    assert (filled.priority, filled.tenant, filled.size_hint) == (5, "default", 1.0)
    policy = filled.retry_policy
    assert (policy.max_retries, policy.backoff_multiplier, policy.jitter) == (3, 2.0, 1.0)
    assert policy.initial_backoff.ToMilliseconds() == 200
    assert policy.max_backoff.ToMilliseconds() == 30_000
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", filled.traceparent)


async def test_what_a_task_says_is_kept(served: Served) -> None:
    asked = spec(
        priority=0,
        tenant="t1",
        labels={"a": "1"},
        retry_policy=RetryPolicy(max_retries=0, jitter=0.0),
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )
    kept = (await served.get((await served.submit(asked))[0])).spec

    assert (kept.priority, kept.tenant, dict(kept.labels)) == (0, "t1", {"a": "1"})
    assert (kept.retry_policy.max_retries, kept.retry_policy.jitter) == (0, 0.0)
    assert kept.traceparent == asked.traceparent


async def test_urgent_tasks_are_counted_for_the_commit(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    wake = Committer.wake

    def counted(self: Committer, urgent_len: int = 0) -> None:
        woken.append(urgent_len)
        wake(self, urgent_len)

    monkeypatch.setattr(Committer, "wake", counted)

    await served.submit(spec(priority=5), spec())
    assert set(woken) == {0}
    await served.submit(spec(priority=6), spec(priority=9), spec(priority=5))

    assert [count for count in woken if count] == [2]


async def test_ids_come_in_the_order_of_the_request(served: Served) -> None:
    ids = await served.submit(*[spec(f"t{n}") for n in range(20)])

    assert [(await served.get(one)).spec.type for one in ids] == [f"t{n}" for n in range(20)]
    assert ids == sorted(ids)


async def test_a_repeat_is_told_apart_from_a_reuse(served: Served) -> None:
    request = task_scheduler_pb2.SubmitTasksRequest(tasks=[spec(request_id="q1"), spec()])
    first = await served.stub.SubmitTasks(request, timeout=WITHIN_S)
    # A repeat may be traced anew.
    request.tasks[0].traceparent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    again = await served.stub.SubmitTasks(request, timeout=WITHIN_S)

    assert again.task_ids[0] == first.task_ids[0]
    assert list(again.duplicate_indexes) == [0]
    assert again.task_ids[1] != first.task_ids[1]
    error = await refusal(served.submit(spec(request_id="q1", priority=1)))
    assert (type(error), error.reason) == (AlreadyExists, "IDEMPOTENCY_KEY_REUSED")


async def test_get_waits_for_the_end(served: Served) -> None:
    async with served.router("work") as router:
        task_id = (await served.submit(spec()))[0]
        grant = await router.grant()
        request = task_scheduler_pb2.GetTaskRequest(task_id=task_id, wait=Duration(seconds=9))
        waiting = asyncio.ensure_future(served.stub.GetTask(request, timeout=WITHIN_S))
        await router.complete(grant)

        assert (await waiting).task.state == Task.STATE_COMPLETED


async def test_a_wait_that_is_over_gives_the_task_as_it_is(served: Served) -> None:
    task_id = (await served.submit(spec()))[0]
    request = task_scheduler_pb2.GetTaskRequest(task_id=task_id, wait=Duration(nanos=20_000_000))

    assert (await served.stub.GetTask(request)).task.state == Task.STATE_QUEUED


async def test_lists_come_in_pages(served: Served) -> None:
    ids = await served.submit(*[spec() for _ in range(5)], spec("other"))
    request = task_scheduler_pb2.ListTasksRequest(filter=TaskFilter(type="work"), page_size=2)
    seen: list[str] = []
    while True:
        page = await served.stub.ListTasks(request, timeout=WITHIN_S)
        seen += [task.task_id for task in page.tasks]
        assert not any(task.spec.HasField("payload") for task in page.tasks)
        request.page_token = page.next_page_token
        if not request.page_token:
            break

    assert seen == ids[4::-1]


async def test_lists_are_filtered_by_labels(served: Served) -> None:
    ids = await served.submit(spec(labels={"a": "1", "b": "2"}), spec(labels={"a": "2"}), spec())
    request = task_scheduler_pb2.ListTasksRequest(filter=TaskFilter(labels={"a": "1"}))

    tasks = (await served.stub.ListTasks(request, timeout=WITHIN_S)).tasks

    assert [task.task_id for task in tasks] == ids[:1]


async def test_a_token_fits_its_own_list_alone(served: Served) -> None:
    await served.submit(*[spec() for _ in range(3)])
    request = task_scheduler_pb2.ListTasksRequest(page_size=1)
    request.page_token = (await served.stub.ListTasks(request)).next_page_token
    request.filter.type = "work"

    error = await refusal(served.stub.ListTasks(request))

    assert error.reason == "PAGE_TOKEN_INVALID"


async def test_cancel_by_id_and_by_filter(served: Served) -> None:
    ids = await served.submit(spec("a"), spec("a"), spec("b"))
    one = task_scheduler_pb2.CancelTasksRequest(task_ids=ids[:1], reason="enough")
    rest = task_scheduler_pb2.CancelTasksRequest(filter=TaskFilter(type="a"))

    assert list((await served.stub.CancelTasks(one)).task_ids) == ids[:1]
    assert list((await served.stub.CancelTasks(rest)).task_ids) == ids[1:2]
    assert (await served.get(ids[0])).failure.message == "enough"
    assert (await served.get(ids[2])).state == Task.STATE_QUEUED
    error = await refusal(served.stub.CancelTasks(one))
    assert (type(error), error.reason) == (FailedPrecondition, "TASK_ENDED")


async def test_a_question_is_answered(served: Served) -> None:
    async with served.router("work") as router:
        task_id = (await served.submit(spec()))[0]
        grant = await router.grant()
        await router.start(grant)
        asked = task_scheduler_pb2.AttemptNeedsInput(
            lease={"task_id": task_id, "lease_epoch": grant.lease_epoch},
            agent_id="a1",
            question=Payload(data=b"which?"),
        )
        await router.say(task_scheduler_pb2.DispatchReport(needs_input=asked))
        await eventually(lambda: _in_state(served, task_id, Task.STATE_INPUT_REQUIRED))
        assert (await served.get(task_id)).input_request.data == b"which?"

        answer = task_scheduler_pb2.ProvideInputRequest(
            task_id=task_id, input=Payload(data=b"that")
        )
        await served.stub.ProvideInput(answer)

        again = await router.grant()
        assert (again.input.data, again.attempt) == (b"that", 2)
        error = await refusal(served.stub.ProvideInput(answer))
        assert error.reason == "INPUT_NOT_REQUIRED"


async def _in_state(served: Served, task_id: str, state: int) -> bool:
    return (await served.get(task_id)).state == state


async def test_a_task_is_explained(served: Served) -> None:
    async with served.router("work") as router:
        task_id = await served.run(router)
        request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)
        explained = await served.stub.ExplainTask(request, timeout=WITHIN_S)

    assert [decision.decision.policy for decision in explained.decisions] == ["formula"]
    assert [event.type for event in explained.events] == [1, 2, 3, 4, 11]
    assert {event.task_id for event in explained.events} == {task_id}
    assert not explained.events[0].created.spec.HasField("payload")
    assert not explained.events[-1].completed.HasField("result")
    assert explained.waiting_for == ""


async def test_a_start_that_is_told_with_the_end_is_explained_as_well(served: Served) -> None:
    async with served.router("work") as router:
        [task_id] = await served.submit(spec())
        ended = task_scheduler_pb2.AttemptEnded(
            lease=lease(await router.grant()), agent_id="a1", success=Payload(data=b"ok")
        )
        ended.decision.policy = "learned"
        await router.say(Report(ended=ended))
        settled = (await router.next("settled")).settled
        request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)
        explained = await served.stub.ExplainTask(request, timeout=WITHIN_S)

    assert settled.verdict == ResultAck.VERDICT_ACCEPTED
    assert [event.type for event in explained.events] == [1, 2, 3, 4, 11]
    assert [decision.decision.policy for decision in explained.decisions] == ["learned"]


async def test_a_task_without_agents_says_so(served: Served) -> None:
    task_id = (await served.submit(spec("gpu")))[0]
    request = task_scheduler_pb2.ExplainTaskRequest(task_id=task_id)

    assert "gpu" in (await served.get(task_id)).unschedulable_reason
    assert "gpu" in (await served.stub.ExplainTask(request)).waiting_for


async def test_the_queue_is_counted(served: Served) -> None:
    async with served.router("work") as router:
        await served.run(router)
        await served.submit(spec("gpu", priority=9), spec("gpu"))
        stats = await served.stub.GetQueueStats(task_scheduler_pb2.GetQueueStatsRequest())

    assert {one.state: one.count for one in stats.states} == {8: 1, 3: 2}
    assert [(one.priority, one.count) for one in stats.priorities] == [(9, 1), (5, 1)]
    assert [
        (list(r.required_capabilities), r.count, r.schedulable) for r in stats.requirements
    ] == [(["gpu"], 2, False)]
    assert (stats.durable_seq, stats.event_count, stats.router_count) == (10, 10, 1)
    assert stats.commit_count > 0


async def test_what_was_accepted_is_there_after_a_restart(tmp_path: Path) -> None:
    async with wire(tmp_path) as served:
        waiting = (await served.submit(spec("gpu", labels={"a": "1"})))[0]
        async with served.router("work") as router:
            done = await served.run(router, b"result")
        before = await served.get(waiting)
    async with wire(tmp_path) as served:
        after = await served.get(waiting)
        assert after == before
        assert (await served.get(done)).result.data == b"result"


async def test_a_full_backlog_says_when_to_come_back(tmp_path: Path) -> None:
    async with wire(tmp_path, open_tasks_max=1) as served:
        await served.submit(spec())
        error = await refusal(served.submit(spec()))

    assert (type(error), error.reason) == (ResourceExhausted, "BACKLOG_FULL")
    assert error.retry_after_s


async def test_a_draining_scheduler_takes_nothing_in_and_still_answers(wired: Served) -> None:
    task_id = (await wired.submit(spec()))[0]
    await wired.assembled.drain()

    error = await refusal(wired.submit(spec()))

    assert (type(error), error.reason) == (Unavailable, "DRAINING")
    assert (await wired.get(task_id)).task_id == task_id


def test_every_method_has_a_role_and_the_contract_says_the_same() -> None:
    text = PROTO.read_text("utf-8")
    said = re.findall(r"needs the role `(\w+)`\.\n  rpc (\w+)\(", text)

    assert {f"/podium.v1.TaskSchedulerService/{rpc}": role for role, rpc in said} == POLICY


def test_the_reasons_in_the_contract_are_those_of_the_code() -> None:
    text = PROTO.read_text("utf-8")
    service = text[
        text.index("\n// TaskSchedulerService accepts") : text.index("\nmessage SubmitTasksRequest")
    ]
    words = set(re.findall(r"\b[A-Z][A-Z_]+[A-Z]\b", " ".join(re.findall(r"// ?(.*)", service))))
    documented = words - set(BY_CODE) - {"RPC"} - STATES
    raised = {
        reason
        for path in (PROTO.parents[3] / "services/task_scheduler").rglob("*.py")
        for reason in reasons(ast.parse(path.read_text("utf-8")))
    }

    assert documented - ELSEWHERE == raised - ELSEWHERE - AT_START


STATES = {"INPUT_REQUIRED"}
# Raised by the kernel for every service.
ELSEWHERE = {
    "INVALID_FIELD",
    "INVALID_TOKEN",
    "MALFORMED_REQUEST",
    "PAGE_TOKEN_INVALID",
    "ROLE_MISSING",
}
# Why a process does not start, or a command of its does nothing, is told to the operator alone.
AT_START = {
    *("BACKUP_EXISTS", "BACKUP_OTHER_KIND", "EXTRA_MISSING"),
    *("JOURNAL_IN_USE", "JOURNAL_NOT_DURABLE"),
    *("JOURNAL_TOO_NEW", "JOURNAL_UNREADABLE"),
    *("PARTITIONS_MISMATCH", "SHARED_KEYS_SPLIT"),
}


def reasons(tree: ast.AST) -> set[str]:
    """Return the reasons of the errors that a module makes."""
    kinds = {kind.__name__ for kind in BY_CODE.values()} | {"wrong_state"}
    return {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in kinds
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }
